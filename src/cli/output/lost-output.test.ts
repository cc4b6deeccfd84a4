// Errors of the output: they end a process, unless it survives the loss of its reader.
import { constants } from "node:os";
import { Writable } from "node:stream";
import { expect, test } from "vitest";
import { surviveLostOutput, watchOutput } from "./lost-output.ts";

const failure = (code: string) => Object.assign(new Error(`write ${code}`), { code });

test("output without a reader ends the process, but not a machine that is saved; a full disk ends both", () => {
  const exits: number[] = [];
  const messages: string[] = [];
  const stream = new Writable();
  watchOutput(
    [stream],
    ({ message }) => messages.push(message),
    (code) => void exits.push(code),
  );
  const fail = (...codes: string[]) => codes.forEach((code) => stream.emit("error", failure(code)));
  fail("EPIPE", "EIO");
  expect(exits).toEqual([128 + constants.signals.SIGPIPE, 1]);
  let lost = 0;
  surviveLostOutput(() => void lost++);
  fail("EPIPE", "EIO", "ERR_STREAM_DESTROYED");
  expect([exits.length, lost]).toEqual([2, 3]);
  fail("ENOSPC");
  expect(exits.slice(2)).toEqual([2]);
  expect(messages).toEqual(["standard output: write EIO", "standard output: write ENOSPC"]);
});
