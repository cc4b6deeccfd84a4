// The return path of a move: PONG and SHUT of QEMU's protocol, and Wherry's own message with the reason of a
// failure. be16 type, be16 length, data, from the destination to the source over the same connection.
import { ByteWriter } from "../base/bytes.ts";
import { decodeUtf8, encodeUtf8 } from "../base/text.ts";
import type { Channel } from "./channel.ts";
import { foreignPeer } from "./foreign-peer.ts";
import { MigrationError } from "./migration-error.ts";
import { StreamReader } from "./stream-reader.ts";
import { MIG_RP_MSG } from "./wire.ts";

const MAX_REASON_BYTES = 4096;
/** Messages of a fixed length; the others are text. */
const LENGTHS: ReadonlyMap<number, number> = new Map([
  [MIG_RP_MSG.PONG, 4],
  [MIG_RP_MSG.SHUT, 4],
]);
const isText = (type: number) => type === MIG_RP_MSG.WHERRY_REASON || type === MIG_RP_MSG.WHERRY_PROCESS;

export function pongMessage(cookie: number): Uint8Array {
  return new ByteWriter(8).u16(MIG_RP_MSG.PONG).u16(4).u32(cookie).finish();
}

/** States which process the destination is (MigrationEnvironment.ownIdentity). */
export function processMessage(identity: string): Uint8Array {
  const text = encodeUtf8(identity);
  return new ByteWriter().u16(MIG_RP_MSG.WHERRY_PROCESS).u16(text.length).bytes(text).finish();
}

/** SHUT, after the reason if it reports a failure. */
export function shutMessage(code: number, reason?: string): Uint8Array {
  const writer = new ByteWriter();
  if (reason !== undefined) {
    let text = encodeUtf8(reason);
    if (text.length > MAX_REASON_BYTES) text = text.slice(0, MAX_REASON_BYTES);
    writer.u16(MIG_RP_MSG.WHERRY_REASON).u16(text.length).bytes(text);
  }
  return writer.u16(MIG_RP_MSG.SHUT).u16(4).u32(code).finish();
}

const DESTINATION_ENDED =
  "the destination aborted the move or its process exited; see its messages for the reason (for a QEMU: give --profile)";

/** The source's end: reads messages as they arrive. */
export class ReturnPath {
  readonly #reader: StreamReader;
  readonly #endAdvice: string;
  readonly #pongs = new Map<number, () => void>();
  readonly #seenPongs = new Set<number>();
  /** Resolves with the code of SHUT; rejects if the connection is lost before. */
  readonly shut: Promise<number>;
  /** The destination's reason, if it sent one. */
  reason: string | undefined;
  /** The destination's process, if it sent one. */
  peerProcess: string | undefined;
  /** Set once the return path has ended: no message arrives later. */
  ended: MigrationError | undefined;

  /** `endAdvice`: the message if the destination closes the connection. */
  constructor(channel: Channel, endAdvice = DESTINATION_ENDED) {
    this.#reader = new StreamReader(channel);
    this.#reader.where = () => "return path";
    this.#endAdvice = endAdvice;
    this.#reader.endAdvice = endAdvice;
    this.shut = this.#run();
    this.shut.catch(() => {});
  }

  async #run(): Promise<number> {
    try {
      for (;;) {
        if (this.#reader.available === 0 && !(await this.#reader.more()))
          throw new MigrationError("migration.connection", this.#endAdvice);
        if (!(await this.#reader.ahead(4))) this.#garbage();
        const { view, at } = this.#reader;
        const [type, length] = [view.getUint16(at), view.getUint16(at + 2)];
        const exact = LENGTHS.get(type);
        if (exact === undefined ? !isText(type) || length > MAX_REASON_BYTES : length !== exact)
          this.#garbage();
        this.#reader.skip(4);
        await this.#reader.need(length);
        if (type === MIG_RP_MSG.PONG) {
          const cookie = this.#reader.u32();
          this.#seenPongs.add(cookie);
          this.#pongs.get(cookie)?.();
        } else if (type === MIG_RP_MSG.SHUT) {
          const code = this.#reader.u32();
          this.ended = new MigrationError(
            "migration.refused",
            code === 0
              ? "the destination ended the return path too early"
              : `the destination aborted the move: ${this.reason ?? `error ${code}; see its messages for the reason`}`,
          );
          return code;
        } else if (type === MIG_RP_MSG.WHERRY_REASON) {
          this.reason = decodeUtf8(this.#reader.bytes(length));
        } else this.peerProcess = decodeUtf8(this.#reader.bytes(length));
      }
    } catch (error) {
      this.ended = error as MigrationError;
      throw error;
    }
  }

  /** The bytes at the cursor are no message. */
  #garbage(): never {
    const { offset, buffer, at, available } = this.#reader;
    const found = foreignPeer(buffer.subarray(at, at + available));
    this.#reader.fail(
      "migration.return-path",
      offset === 0
        ? `expected a destination's reply, found ${found}: is this the address of --incoming, and of this release?`
        : `expected a message, found ${found}: the destination or the connection is faulty`,
    );
  }

  /** Throws if the destination closed the return path or reported a failure. */
  check(): void {
    if (this.ended !== undefined) throw this.ended;
  }

  /** Resolves when PONG with this cookie has arrived; rejects when it cannot arrive any more. */
  async pong(cookie: number): Promise<void> {
    if (this.#seenPongs.has(cookie)) return;
    const answered = new Promise<void>((resolve) => this.#pongs.set(cookie, resolve));
    await Promise.race([answered, this.shut]);
    if (!this.#seenPongs.has(cookie)) this.check();
  }
}
