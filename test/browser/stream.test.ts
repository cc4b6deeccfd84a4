// The entry `wherry/stream` in a page: opens a stream from a File, as in docs/stream-format.md. Runs the
// output of `tsc -b`.
import { describe, expect, test } from "vitest";
import { serveBrowser } from "../../tools/serve-browser.ts";
import { smallStream } from "../support/stream-builder.ts";
import { hasChromium, withChromium } from "../support/chromium.ts";

/** A string, since the test runner rewrites imports within functions. */
const program = (bytes: Uint8Array): string => `(async () => {
  const { fieldAt, overview, readStream, reportJson } = await import("/stream.js");
  const file = new File([Uint8Array.from([${bytes.join()}])], "stream");
  const source = {
    size: file.size,
    async read(offset, into) {
      const part = new Uint8Array(await file.slice(offset, offset + into.length).arrayBuffer());
      into.set(part);
      return part.length;
    },
  };
  let pages = 0;
  const report = await readStream(source, { onPage: () => void pages++ });
  return [report.problem?.code, pages, String(fieldAt(report, "timer/0/ticks")?.value), overview(report)[1],
    reportJson(report).includes('"value": -2')];
})()`;

describe.skipIf(!hasChromium())("in Chromium", { retry: 1, timeout: 120_000 }, () => {
  test("a file is opened: sections, fields, pages, JSON", async () => {
    const server = await serveBrowser();
    try {
      const found = await withChromium(async (browser) => {
        const page = await browser.newPage();
        await page.goto(server.url);
        return page.evaluate(program(smallStream().end()));
      });
      expect(found).toEqual([undefined, 5, "-2", "machine        pc-test-1.0", true]);
    } finally {
      await server.close();
    }
  });
});
