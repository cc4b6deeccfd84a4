// DNS messages for the host's resolvers: by UDP, by TCP if the answer does not fit, and for addresses by the
// system's own resolver (its hosts file, and whatever else it asks) if no server answers.
import { randomBytes } from "node:crypto";
import { createSocket } from "node:dgram";
import { getServers } from "node:dns";
import { lookup } from "node:dns/promises";
import { connect } from "node:net";
import { isIPv6 } from "node:net";
import {
  addressAnswer,
  emptyAnswer,
  NXDOMAIN,
  parseQuestion,
  TYPE_A,
  TYPE_AAAA,
} from "../../usernet/wire/dns-message.ts";
import { parseIp } from "../../usernet/wire/ip-address.ts";

const DNS_PORT = 53;
const TRY_MS = 2500;
const SYSTEM_TTL_SECONDS = 60;
const TRUNCATED = 2;

export interface DnsServer {
  readonly host: string;
  readonly port: number;
}

/** The servers of the host's configuration; an empty list if there is none. */
export function hostServers(): DnsServer[] {
  return getServers().map((text) => {
    const [, v6, v4, port] = /^(?:\[([^\]]+)\]|([^:]+)):(\d+)$/.exec(text) ?? [];
    return { host: v6 ?? v4 ?? text, port: port === undefined ? DNS_PORT : Number(port) };
  });
}

/** The answer, with the query's id; undefined if nobody has one. */
export async function resolveMessage(
  query: Uint8Array,
  servers: readonly DnsServer[] = hostServers(),
): Promise<Uint8Array | undefined> {
  for (const server of servers) {
    const answer = await ask(query, server);
    if (answer !== undefined) return answer;
  }
  return bySystem(query);
}

async function ask(query: Uint8Array, server: DnsServer): Promise<Uint8Array | undefined> {
  // An id that others cannot guess.
  const [a = 0, b = 0] = randomBytes(2);
  const own = Uint8Array.from(query);
  own.set([a, b]);
  const isOurs = (answer: Uint8Array): boolean =>
    answer.length >= 12 && answer[0] === a && answer[1] === b && (answer[2]! & 0x80) !== 0;
  let answer = await byUdp(own, server, isOurs);
  if (answer !== undefined && (answer[2]! & TRUNCATED) !== 0)
    answer = (await byTcp(own, server, isOurs)) ?? answer;
  answer?.set(query.subarray(0, 2));
  return answer;
}

type Wanted = (answer: Uint8Array) => boolean;
type Answer = Promise<Uint8Array | undefined>;

function byUdp(query: Uint8Array, { host, port }: DnsServer, isOurs: Wanted): Answer {
  return new Promise((resolve) => {
    const socket = createSocket(isIPv6(host.replace(/%.*$/, "")) ? "udp6" : "udp4");
    let isDone = false;
    const done = (answer?: Uint8Array): void => {
      if (isDone) return;
      isDone = true;
      clearTimeout(late);
      socket.close();
      resolve(answer);
    };
    const late = setTimeout(done, TRY_MS);
    socket.on("error", () => done());
    socket.on("message", (bytes: Uint8Array) => {
      if (isOurs(bytes)) done(Uint8Array.from(bytes));
    });
    // Connected, the system drops what others send, and reports a port without a server. A callback of
    // `connect` would get the errors, such as ENETUNREACH.
    socket.once("connect", () => {
      if (!isDone) socket.send(query);
    });
    socket.connect(port, host);
  });
}

function byTcp(query: Uint8Array, { host, port }: DnsServer, isOurs: Wanted): Answer {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    let input: Buffer = Buffer.alloc(0);
    const done = (answer?: Uint8Array): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(TRY_MS, () => done());
    socket.on("error", () => done());
    socket.once("close", () => done());
    socket.on("data", (bytes: Buffer) => {
      input = Buffer.concat([input, bytes]);
      if (input.length < 2 || input.length < 2 + input.readUInt16BE()) return;
      const answer = Uint8Array.from(input.subarray(2, 2 + input.readUInt16BE()));
      done(isOurs(answer) ? answer : undefined);
    });
    const head = Buffer.alloc(2);
    head.writeUInt16BE(query.length);
    socket.write(Buffer.concat([head, query]));
  });
}

async function bySystem(query: Uint8Array): Promise<Uint8Array | undefined> {
  const asked = parseQuestion(query);
  if (asked === undefined || (asked.type !== TYPE_A && asked.type !== TYPE_AAAA)) return undefined;
  try {
    const found = await lookup(asked.name, { all: true });
    const addresses = found.flatMap(({ address }) => parseIp(address.replace(/%.*$/, "")) ?? []);
    return addressAnswer(query, asked, addresses, SYSTEM_TTL_SECONDS);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code === "ENOTFOUND" ? emptyAnswer(query, asked, NXDOMAIN) : undefined;
  }
}
