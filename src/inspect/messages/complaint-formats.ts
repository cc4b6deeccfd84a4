// The tables of QEMU's messages: their form, and how a message's format becomes a pattern. A format is the
// message as it is printed, with names in braces where it varies; it matches whatever stands before and after
// it, and however its words are quoted and wrapped.
import type { Problem } from "../model/stream-report.ts";

/** What to run when a message alone does not say enough. */
export const CHECK = "run `wherry check STREAM --target DUMP.json` with the target's -dump-vmstate";
export const INSPECT = "run `wherry inspect STREAM`: it reports where the stream ends or is damaged";

/** What a message's variable parts were, by name. A part that this variant lacks is missing. */
export type Words = Readonly<Record<string, string | undefined>>;

export type Explanation = Partial<Omit<Problem, "code" | "offset">>;

/**
 * How much a message says of the failure's reason. A failure prints several messages, of which the one with
 * the lowest rank is explained:
 * - `cause`: the reason itself;
 * - `probable`: a reason that may follow from another;
 * - `symptom`: the place that failed;
 * - `outer`: the device that failed;
 * - `code`: that loading failed, with an error number;
 * - `warning`: what QEMU found strange, but went on;
 * - `wrapper`: that QEMU failed, says the program that started it.
 */
export const RANKS = ["cause", "probable", "symptom", "outer", "code", "warning", "wrapper"] as const;
export type Rank = (typeof RANKS)[number];

/** A message, or several with one cause and cure. */
export interface Complaint {
  /**
   * Formats: `{name}` is any text without a quote, `{name:w}` a word, `{name:d}` a decimal number, `{name:x}`
   * a hexadecimal one, `{name:rest}` the rest of the line, and `{}` is any text in the line.
   */
  readonly says: string | readonly string[];
  /** Default: `cause`. */
  readonly rank?: Rank;
  /** True if each of several such messages needs a cure of its own. */
  readonly each?: boolean;
  /** Templates, with words of the format in braces. */
  readonly where?: string;
  readonly expected: string;
  readonly found: string;
  readonly cause: string;
  readonly cure: string;
  /** Replaces parts of the explanation by what the words say. `device` is the failed section's name. */
  readonly explain?: (words: Words, device: string | undefined) => Explanation;
}

export type ComplaintTable = Readonly<Record<string, Complaint>>;

/** A format's pattern, with what a text must have for it to match, in lower case: a quicker test. */
export interface Pattern {
  readonly expression: RegExp;
  /** Whole words. */
  readonly words: readonly string[];
  /** Part of a word. */
  readonly part: string;
}

/** A word of a text in lower case. */
export const WORD = /[a-z0-9_]+/g;

const CLASSES: Readonly<Record<string, string>> = {
  "": "[^'\\n]{0,200}?",
  w: "[^\\s',]{1,200}",
  d: "-?\\d{1,20}",
  x: "[0-9a-f]{1,64}",
  rest: "[^\\n]{0,400}",
};

/** Compiles a format. `gap` matches between two words. Quotes in the text must be apostrophes. */
export function compileFormat(format: string, gap = "\\s+"): Pattern {
  const parts = format.split(/('\{\w+\}'|"\{\w+\}"|\{\w*(?::\w+)?\})/);
  const source = parts.map((part) => {
    if (part === "{}") return "[^\\n]{0,200}?";
    const quoted = /^['"]\{(\w+)\}['"]$/.exec(part)?.[1];
    // Its quotes may be missing, or the line may end within the name.
    if (quoted !== undefined) return `(?:'(?<${quoted}>[^'\\n]{0,200})'|'?(?<${quoted}_>[^\\s',]{1,200}))`;
    const [, name, kind = ""] = /^\{(\w*):?(\w*)\}$/.exec(part) ?? [];
    if (name !== undefined) return `(${name === "" ? "?:" : `?<${name}>`}${CLASSES[kind] ?? ""})`;
    return part
      .replace(/[.*+?^$()[\]|\\/]/g, "\\$&")
      .replace(/['"]/g, "'?")
      .replace(/ +/g, gap);
  });
  // A name at the start begins a word, so that the search does not try each of its letters.
  const start = parts[0] === "" ? "(?<![^\\s'(])" : "";
  const literals = parts.filter((part) => !/^['"]?\{/.test(part)).map((part) => part.toLowerCase());
  // The first and the last word of a piece may be parts of longer ones.
  const words = literals.flatMap((piece) => piece.match(WORD)?.slice(1, -1) ?? []);
  const [part = ""] = literals
    .flatMap((piece) => piece.match(WORD) ?? [])
    .sort((a, b) => b.length - a.length);
  return { expression: new RegExp(start + source.join(""), "gi"), words, part };
}

/** The words of a match. */
export const wordsOf = ({ groups = {} }: RegExpMatchArray): Words =>
  Object.fromEntries(
    Object.entries(groups).flatMap(([name, word]) =>
      word === undefined ? [] : [[name.replace(/_$/, ""), word]],
    ),
  );

/** Fills a template's names in. */
export const fill = (template: string, words: Words): string =>
  template.replace(/\{(\w+)\}/g, (_, name: string) => words[name] ?? "?");
