// `npm run browser` if it cannot serve: one line with the reason and the cure, and exit code 1.
import { execFile } from "node:child_process";
import { createServer } from "node:net";
import { join } from "node:path";
import { expect, test } from "vitest";

const TOOL = join(import.meta.dirname, "./serve-browser.ts");

function serve(...args: string[]): Promise<{ code: number | null; err: string }> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [TOOL, ...args], { timeout: 20_000 }, (_, __, err) =>
      resolve({ code: child.exitCode, err }),
    );
  });
}

test("its port is taken", async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  try {
    expect(await serve("--port", String(port))).toEqual({
      code: 1,
      err:
        `browser: cannot use port ${port}: another process has it; ` +
        "npm run browser -- --port N takes another, 0 any free one\n",
    });
  } finally {
    server.close();
  }
});

test.each([
  [["--port", "x"], /^browser: --port x: expected a number up to 65535\n$/],
  [["--porf", "1"], /^browser: Unknown option '--porf'.*\n$/],
  [["--kernel", "/nowhere"], /^browser: .*\/nowhere.*\n$/],
])("%s makes no sense", async (args, message) => {
  const { code, err } = await serve(...args);
  expect(err).toMatch(message);
  expect(code).toBe(1);
});
