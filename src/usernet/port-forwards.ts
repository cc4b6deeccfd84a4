// Ports of the host that lead to guests: given, added by a monitor or a program, or brought by a state. They
// are open while a machine is here.
import { messageOf } from "../base/errors.ts";
import { type ForwardRule, forwardText, parseForward, parseHostPort, UserNetError } from "./net-rules.ts";
import type { UserNetMemory } from "./saved-network.ts";
import type { NetListener } from "./transport/net-platform.ts";
import { ipText } from "./wire/ip-address.ts";

interface Forward {
  /** With the port that it has, or had. */
  rule: ForwardRule;
  /** Which port of the host it is was left open. */
  readonly isAnyPort: boolean;
  /** Not saved. */
  readonly isTransient: boolean;
  /** Undefined while no machine is here, or if the port could not be opened. */
  listener: NetListener | undefined;
}

export interface ForwardsLink {
  readonly firstGuest: Uint8Array;
  isGuest(address: Uint8Array): boolean;
  /** Listens for a guest. Rejects with an Error that says why it cannot. */
  listen(rule: ForwardRule, guest: Uint8Array, port: number): Promise<NetListener>;
}

export class PortForwards {
  readonly #link: ForwardsLink;
  readonly #forwards = new Set<Forward>();
  warn: (message: string) => void = () => {};
  /** Counts arrivals and departures of machines. */
  #stay = 0;
  #isResting = false;
  #closed = false;

  constructor(link: ForwardsLink) {
    this.#link = link;
  }

  /**
   * Opens it; with `isAwaiting` it only waits for the machine that arrives. `isTransient`: it is not saved.
   * Resolves with the port. Rejects with UserNetError.
   */
  async add(
    rule: ForwardRule,
    options: { isAwaiting?: boolean; isTransient?: boolean } = {},
  ): Promise<number> {
    const forward = this.#add(rule, rule.hostPort === 0, options.isTransient);
    if (options.isAwaiting === true) return rule.hostPort;
    try {
      await this.#listen(forward);
    } catch (error) {
      this.#forwards.delete(forward);
      throw error;
    }
    return forward.rule.hostPort;
  }

  /** Ends what `[tcp|udp]:[HOSTADDR]:HOSTPORT` names. Returns false if there is none. Throws UserNetError. */
  remove(text: string): boolean {
    const key = keyOf(parseHostPort(text));
    const found = [...this.#forwards].find(({ rule }) => keyOf(rule) === key);
    if (found === undefined) return false;
    this.#forwards.delete(found);
    found.listener?.close();
    return true;
  }

  /** Those that are open, in QEMU's notation. */
  list(): string[] {
    const open = [...this.#forwards].filter(({ listener }) => listener !== undefined);
    return open.map(({ rule }) => forwardText(rule));
  }

  remember(): UserNetMemory["forwards"] {
    const saved = [...this.#forwards].filter(({ isTransient }) => !isTransient);
    return saved.map(({ rule, isAnyPort }) => ({ rule: forwardText(rule), isAnyPort }));
  }

  /** The machine leaves. */
  suspend(): void {
    this.#stay++;
    this.#isResting = true;
    for (const forward of this.#forwards) {
      forward.listener?.close();
      forward.listener = undefined;
    }
  }

  /** The machine is here, and brings some. */
  async resume(brought: UserNetMemory["forwards"]): Promise<void> {
    const stay = ++this.#stay;
    this.#isResting = false;
    for (const forward of [...this.#forwards])
      if (forward.listener === undefined && this.#stay === stay) await this.#reopen(forward);
    const given = [...this.#forwards];
    for (const { rule, isAnyPort } of brought) {
      const wanted = parseForward(rule);
      // What is given here takes the place of what comes.
      if (this.#stay === stay && !given.some((own) => this.#isRival(own.rule, wanted)))
        await this.#take(wanted, isAnyPort);
    }
  }

  close(): void {
    this.#stay++;
    this.#closed = true;
    for (const { listener } of this.#forwards) listener?.close();
    this.#forwards.clear();
  }

  #guestOf({ guestAddress }: ForwardRule): Uint8Array {
    return guestAddress ?? this.#link.firstGuest;
  }

  /** They cannot both be, or lead to the same port of a guest. */
  #isRival(a: ForwardRule, b: ForwardRule): boolean {
    const target = (rule: ForwardRule): string =>
      `${rule.protocol} ${this.#guestOf(rule).join()} ${rule.guestPort}`;
    return keyOf(a) === keyOf(b) || target(a) === target(b);
  }

  #add(rule: ForwardRule, isAnyPort: boolean, isTransient = false): Forward {
    const guest = this.#guestOf(rule);
    if (!this.#link.isGuest(guest))
      throw new UserNetError(
        "user-net.forward",
        `${forwardText(rule)}: ${ipText(guest)} is no guest's address`,
      );
    if (!isAnyPort && [...this.#forwards].some((each) => keyOf(each.rule) === keyOf(rule)))
      throw failure(rule, "the host's port is forwarded already");
    const forward = { rule, isAnyPort, isTransient, listener: undefined };
    this.#forwards.add(forward);
    return forward;
  }

  /** A port that a state brings is for this host only: who gave the state may be a stranger. */
  async #take(rule: ForwardRule, isAnyPort: boolean): Promise<void> {
    const { hostAddress } = rule;
    const isLocal = /^(127\.|::1$)/.test(hostAddress);
    const local = isLocal ? rule : { ...rule, hostAddress: hostAddress.includes(":") ? "::1" : "127.0.0.1" };
    try {
      const forward = this.#add(local, isAnyPort);
      await this.#reopen(forward);
      if (forward.listener === undefined) return;
      const why = isLocal
        ? ""
        : `, not for others as '${forwardText(rule)}' was: give hostfwd= here for that`;
      const what = `the machine brings the forwarded port '${forwardText(forward.rule)}'`;
      this.warn(`${what}: open on the loopback${why}`);
    } catch (error) {
      this.warn(messageOf(error));
    }
  }

  /** What fails is tried again when the next machine is here. */
  async #reopen(forward: Forward): Promise<void> {
    try {
      await this.#listen(forward).catch((error: unknown) => {
        if (!forward.isAnyPort) throw error;
        return this.#listen(forward, 0);
      });
    } catch (error) {
      if (!this.#closed) this.warn(messageOf(error));
    }
  }

  async #listen(forward: Forward, port = forward.rule.hostPort): Promise<void> {
    const { rule } = forward;
    const stay = this.#stay;
    const listener = await this.#link.listen(rule, this.#guestOf(rule), port).catch((cause: unknown) => {
      throw failure(rule, messageOf(cause));
    });
    const isLeft = this.#stay !== stay && this.#isResting;
    if (this.#closed || isLeft || forward.listener !== undefined || !this.#forwards.has(forward)) {
      listener.close();
      if (this.#closed) throw failure(rule, "the network is closed");
      return;
    }
    // Port 0 has become another.
    forward.rule = { ...rule, hostPort: listener.port };
    forward.listener = listener;
  }
}

const keyOf = ({
  protocol,
  hostAddress,
  hostPort,
}: Pick<ForwardRule, "protocol" | "hostAddress" | "hostPort">): string =>
  `${protocol} ${hostAddress} ${hostPort}`;

const failure = (rule: ForwardRule, why: string): UserNetError =>
  new UserNetError(
    "user-net.forward",
    `could not set up host forwarding rule '${forwardText(rule)}': ${why}`,
  );
