// The guest's name server: passes questions to the host's resolvers, by UDP and TCP, tells the rules which
// addresses belong to which names, and answers names that the guest may not ask for itself.
import {
  answeredAddresses,
  cutForUdp,
  emptyAnswer,
  NXDOMAIN,
  parseQuestion,
  queryFor,
  SERVFAIL,
  TYPE_A,
  TYPE_AAAA,
  udpLimit,
} from "./wire/dns-message.ts";
import type { NetPlatform, NetStream, StreamEvents } from "./transport/net-platform.ts";
import type { NetRules } from "./net-rules.ts";
import { putU16, u16 } from "./wire/packet.ts";

const MAX_WAITING = 256;
/** As many bytes of questions may wait in one TCP connection. */
const MAX_UNANSWERED = 16;
/** As many names are asked for again at a time. */
const ASKED_AT_ONCE = 8;

export class DnsRelay {
  readonly #platform: NetPlatform;
  readonly #rules: NetRules;
  readonly #refused: (name: string) => void;
  #waiting = 0;

  constructor(platform: NetPlatform, rules: NetRules, refused: (name: string) => void) {
    this.#platform = platform;
    this.#rules = rules;
    this.#refused = refused;
  }

  /** The answer to a message by UDP; undefined if there is none, as for what is no query. */
  async answerUdp(query: Uint8Array): Promise<Uint8Array | undefined> {
    const asked = parseQuestion(query);
    const answer = await this.answer(query);
    return asked && answer && cutForUdp(answer, asked, udpLimit(query, asked));
  }

  async answer(query: Uint8Array): Promise<Uint8Array | undefined> {
    const asked = parseQuestion(query);
    if (asked === undefined || this.#waiting >= MAX_WAITING) return undefined;
    if (!this.#rules.resolves(asked.name)) {
      this.#refused(asked.name);
      return emptyAnswer(query, asked, NXDOMAIN);
    }
    this.#waiting++;
    try {
      const answer = await this.#platform.resolve(query).catch(() => undefined);
      if (answer === undefined || answer.length < 12 || u16(answer, 0) !== u16(query, 0))
        return emptyAnswer(query, asked, SERVFAIL);
      for (const { address, ttlSeconds } of answeredAddresses(answer, asked))
        this.#rules.resolved(asked.name, address, ttlSeconds);
      return answer;
    } finally {
      this.#waiting--;
    }
  }

  /**
   * Asks for what the guest asked before it came here, so that the addresses that it still knows are open.
   * What a saved machine says of them is not believed. `isWanted`: the guest is still here; `answered` is
   * called after each name's answers.
   */
  async askAgain(names: readonly string[], isWanted: () => boolean, answered: () => void): Promise<void> {
    if (!this.#rules.hasNames) return;
    const left = names.filter((name) => this.#rules.resolves(name)).values();
    const ask = async (): Promise<void> => {
      for (const name of left) {
        if (!isWanted()) return;
        const queries = [TYPE_A, TYPE_AAAA].flatMap((type) => queryFor(name, type, type) ?? []);
        await Promise.all(queries.map((query) => this.answer(query)));
        if (isWanted()) answered();
      }
    };
    await Promise.all(Array.from({ length: ASKED_AT_ONCE }, ask));
  }

  /** The server's end of a TCP connection from the guest. */
  serve(events: StreamEvents): NetStream {
    return new DnsStream(this, events);
  }
}

/** Messages with their length before each (RFC 7766). */
class DnsStream implements NetStream {
  readonly unsent = 0;
  readonly #relay: DnsRelay;
  readonly #events: StreamEvents;
  #input = new Uint8Array(0);
  #unanswered = 0;
  #isEnded = false;
  #isOver = false;

  constructor(relay: DnsRelay, events: StreamEvents) {
    this.#relay = relay;
    this.#events = events;
  }

  write(bytes: Uint8Array): void {
    const input = new Uint8Array(this.#input.length + bytes.length);
    input.set(this.#input);
    input.set(bytes, this.#input.length);
    let at = 0;
    while (at + 2 <= input.length && at + 2 + u16(input, at) <= input.length) {
      const end = at + 2 + u16(input, at);
      if (this.#unanswered++ >= MAX_UNANSWERED) return this.#fail();
      void this.#relay.answer(input.slice(at + 2, end)).then((answer) => this.#answered(answer));
      at = end;
    }
    this.#input = input.slice(at);
  }
  end(): void {
    this.#isEnded = true;
    this.#endIfAnswered();
  }
  reset(): void {
    this.#isOver = true;
  }
  setReading(): void {}

  #answered(answer: Uint8Array | undefined): void {
    this.#unanswered--;
    if (this.#isOver) return;
    if (answer === undefined) return this.#fail();
    const bytes = new Uint8Array(2 + answer.length);
    putU16(bytes, 0, answer.length);
    bytes.set(answer, 2);
    this.#events.data(bytes);
    this.#endIfAnswered();
  }
  #endIfAnswered(): void {
    if (!this.#isEnded || this.#unanswered > 0 || this.#isOver) return;
    this.#isOver = true;
    this.#events.ended();
  }
  #fail(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#events.closed("no DNS query");
  }
}
