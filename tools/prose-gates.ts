// Gates for prose: no references to documents that are not in the repository, and no lines of prose or
// comments beyond 110 columns. Left out: code, tables, code blocks, lines that a link or a single word makes
// long, and generated text.
import type { Gate, SourceFile } from "./gates.ts";

const MAX_COLUMNS = 110;

/** Names of plans, issues and their rows. */
const ABSENT = [/\bdesign 0\d\b/gi, /\bseed 0\d\d\b/gi, /\bissue #?\d+\b/gi];
/** Row labels in a table's first cell. */
const TABLE_ROW = /^\|\s*\**(S[0-4])\b/gm;

/** The changelog may name issues; recorded outputs are left unchanged. */
const isWritten = (path: string): boolean =>
  /\.(ts|js|mjs|md|sh|s|c|h|css|html|yml|pml)$|(^|\/)\.ci\//.test(path) &&
  !/^(CHANGELOG\.md$|docs\/api\/)|(^|\/)(fixtures|corpus)\//.test(path);

export const referencesGate: Gate = (files) =>
  files
    .filter(({ path }) => isWritten(path))
    .flatMap(({ path, text }) =>
      [
        ...ABSENT.flatMap((pattern) => [...text.matchAll(pattern)].map(([name]) => name)),
        ...(path.endsWith(".md") ? [...text.matchAll(TABLE_ROW)].map(([, name]) => name ?? "") : []),
      ].map(
        (name) =>
          `${path}: refers to "${name}", which is not in the repository: name a chapter of docs or a public document`,
      ),
    );

export const columnsGate: Gate = (files) =>
  files
    .filter(({ path }) => isWritten(path))
    .flatMap((file) =>
      proseLines(file)
        .filter(({ line }) => [...line].length > MAX_COLUMNS && !isUnbreakable(line))
        .map(
          ({ line, number }) =>
            `${file.path}:${number}: ${[...line].length} columns of prose, at most ${MAX_COLUMNS}: wrap it`,
        ),
    );

/** No space after the indentation and the comment's mark at which the line could be wrapped. */
const isUnbreakable = (line: string): boolean =>
  !/\S \S/.test(line.replace(/^\s*(\/\/|\/?\*+|#+|[-*>]|\d+\.)?\s*/, "")) ||
  /\]\([^)]*\)|https?:\/\//.test(line);

function proseLines({ path, text }: SourceFile): { line: string; number: number }[] {
  const lines = text.split("\n").map((line, index) => ({ line, number: index + 1 }));
  if (path.endsWith(".md")) return markdownProse(lines);
  const [opens, mark] = /\.(ts|js|mjs|css|c|h|pml)$/.test(path) ? [true, /^\s*\/\//] : [false, /^\s*#/];
  let isOpen = false;
  return lines.filter(({ line }) => {
    if (mark.test(line)) return !/oxlint-disable|biome-ignore/.test(line);
    if (!opens) return false;
    const isComment = isOpen || /^\s*\/\*/.test(line);
    if (isComment) isOpen = !line.includes("*/");
    return isComment;
  });
}

function markdownProse(lines: { line: string; number: number }[]): { line: string; number: number }[] {
  let isCode = false;
  return lines.filter(({ line }) => {
    if (/^\s*(```|~~~)/.test(line)) isCode = !isCode;
    return !isCode && !/^\s*(\||<|```|#)/.test(line);
  });
}
