// Requests to end a machine: what counts as a second one, and what follows if the machine goes on.
import { expect, it } from "vitest";
import { MachineQuit } from "./machine-quit.ts";

async function isAgain(quit: MachineQuit): Promise<boolean> {
  return await Promise.race([
    quit.again.then(() => true),
    new Promise<boolean>((no) => setImmediate(no, false)),
  ]);
}

it("a second request is Ctrl-A x, or a signal later; a terminal that closes sends several at once", async () => {
  let now = 5;
  const asked = async (...requests: readonly (readonly [number, NodeJS.Signals?])[]) => {
    const quit = new MachineQuit(() => now);
    const news = requests.map(([at, signal]) => {
      now = at;
      return quit.ask(signal === undefined ? "host-ui" : "host-signal", signal);
    });
    expect(news).toEqual(requests.map((_, i) => i === 0));
    expect((await quit.ended).kind).toBe("quit");
    return await isAgain(quit);
  };
  expect(await asked([0, "SIGHUP"], [1, "SIGHUP"], [5000, "SIGHUP"])).toBe(false);
  expect(await asked([0, "SIGTERM"], [900, "SIGTERM"])).toBe(false);
  expect(await asked([0, "SIGTERM"], [1100, "SIGTERM"])).toBe(true);
  expect(await asked([0, "SIGHUP"], [1])).toBe(true);
  expect(await asked([0])).toBe(false);
});

it("a machine that goes on can be ended again, also by its guest before that", async () => {
  const quit = new MachineQuit();
  expect(quit.ask("host-ui")).toBe(true);
  quit.ask("host-ui");
  const next = quit.goOn();
  expect(await isAgain(quit)).toBe(false);
  expect(quit.ask("host-signal", "SIGTERM")).toBe(true);
  expect((await next).message).toBe("host-signal");
  quit.end({ kind: "shutdown", message: "guest-shutdown" });
  expect((await quit.goOn()).kind).toBe("shutdown");
});
