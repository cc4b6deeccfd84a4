// docs/benchmarks.md has a section for each bench between comments with its name; each bench writes only its
// own section.
import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const DOCUMENT = fileURLToPath(new URL("../docs/benchmarks.md", import.meta.url));

/** Replaces the text between `<!-- NAME -->` and `<!-- end of NAME -->`. */
export async function writeSection(name: string, text: string): Promise<void> {
  const [begin, end] = [`<!-- ${name} -->`, `<!-- end of ${name} -->`];
  const document = await readFile(DOCUMENT, "utf8");
  const [from, to] = [document.indexOf(begin), document.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`${DOCUMENT} has no section from ${begin} to ${end}`);
  await writeFile(DOCUMENT, `${document.slice(0, from + begin.length)}\n${text}\n${document.slice(to)}`);
}
