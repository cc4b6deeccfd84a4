// Source text to statements: comments, labels, several statements on a line, macros (.macro .endm),
// repetition (.rept .irp .endr) and conditions (.if .else .endif), expanded as the statements are read.
import { AsmError } from "./assembler-error.ts";

export interface Line {
  /** file:line */
  readonly place: string;
  readonly text: string;
}

export interface Statement {
  readonly place: string;
  readonly labels: readonly string[];
  /** Mnemonic or directive in lower case; "" for a line with labels only. */
  readonly name: string;
  readonly rest: string;
}

interface Macro {
  readonly parameters: readonly { name: string; fallback: string | undefined }[];
  readonly body: readonly Line[];
}

const QUOTED = /"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])'/y;
const MAX_DEPTH = 64;

/** Splits at `separator` outside quotes and parentheses, and removes a comment. */
function splitOutside(text: string, separator: "," | ";"): string[] {
  const parts: string[] = [];
  let depth = 0;
  let part = "";
  for (let i = 0; i < text.length; i++) {
    const c = text[i] as string;
    QUOTED.lastIndex = i;
    const quoted = c === '"' || c === "'" ? QUOTED.exec(text)?.[0] : undefined;
    if (quoted !== undefined) {
      part += quoted;
      i += quoted.length - 1;
    } else if (c === "#" || (c === "/" && text[i + 1] === "/")) break;
    else if (c === separator && depth === 0) {
      parts.push(part.trim());
      part = "";
    } else {
      if (c === "(") depth++;
      if (c === ")") depth--;
      part += c;
    }
  }
  parts.push(part.trim());
  return parts;
}

/** The operands of a statement; none for an empty text. */
export function splitOperands(rest: string): string[] {
  return rest === "" ? [] : splitOutside(rest, ",");
}

function parse(place: string, text: string): Statement {
  const labels: string[] = [];
  let rest = text;
  for (
    let match = /^([A-Za-z_.$][\w.$]*|\d+):\s*/.exec(rest);
    match;
    match = /^([A-Za-z_.$][\w.$]*|\d+):\s*/.exec(rest)
  ) {
    labels.push(match[1] as string);
    rest = rest.slice(match[0].length);
  }
  const space = rest.search(/\s/);
  const name = (space < 0 ? rest : rest.slice(0, space)).toLowerCase();
  return { place, labels, name, rest: space < 0 ? "" : rest.slice(space).trim() };
}

function substitute(body: readonly Line[], values: ReadonlyMap<string, string>, counter: number): Line[] {
  return body.map(({ place, text }) => ({
    place,
    text: text.replace(/\\(@|\(\)|[A-Za-z_]\w*)/g, (all, name: string) => {
      if (name === "@") return String(counter);
      return name === "()" ? "" : (values.get(name) ?? all);
    }),
  }));
}

/** All statements of `lines` with macros expanded. `value` evaluates the expressions of .if and .rept. */
export function* readLines(
  lines: readonly Line[],
  value: (expression: string) => bigint,
): Generator<Statement> {
  const macros = new Map<string, Macro>();
  let expansions = 0;

  /** The lines before the directive that closes the block opened before `from`. */
  function block(
    all: readonly Line[],
    from: number,
    opens: RegExp,
    closes: RegExp,
  ): { body: Line[]; next: number } {
    let depth = 1;
    for (let i = from; i < all.length; i++) {
      const text = (all[i] as Line).text.trim();
      if (opens.test(text)) depth++;
      if (closes.test(text) && --depth === 0) return { body: all.slice(from, i), next: i + 1 };
    }
    throw new AsmError((all[from - 1] as Line).place, "block is not closed");
  }

  function* walk(all: readonly Line[], depth: number): Generator<Statement> {
    if (depth > MAX_DEPTH) throw new AsmError(all[0]?.place ?? "?", "macros nest too deeply");
    /** One entry for each open .if: whether its branch is taken, and whether an .else may follow. */
    const conditions: { taken: boolean; outer: boolean }[] = [];
    for (let i = 0; i < all.length; ) {
      const line = all[i++] as Line;
      for (const part of splitOutside(line.text, ";")) {
        if (part === "") continue;
        const statement = parse(line.place, part);
        const active = conditions.at(-1)?.taken ?? true;
        if (statement.name === ".if") {
          conditions.push({ taken: active && guarded(line, statement.rest) !== 0n, outer: active });
        } else if (statement.name === ".else") {
          const open = conditions.at(-1);
          if (!open) throw new AsmError(line.place, ".else without .if");
          open.taken = open.outer && !open.taken;
        } else if (statement.name === ".endif") {
          if (!conditions.pop()) throw new AsmError(line.place, ".endif without .if");
        } else if (statement.name === ".macro") {
          const { body, next } = block(all, i, /^\.macro\b/, /^\.endm\b/);
          i = next;
          if (active) defineMacro(line.place, statement.rest, body);
        } else if (statement.name === ".rept" || statement.name === ".irp") {
          const { body, next } = block(all, i, /^\.(rept|irp)\b/, /^\.endr\b/);
          i = next;
          if (!active) continue;
          if (statement.name === ".rept") {
            const count = Number(guarded(line, statement.rest));
            for (let n = 0; n < count; n++) yield* walk(substitute(body, new Map(), expansions++), depth + 1);
          } else {
            const [name, ...values] = splitOperands(statement.rest.replace(/^(\w+)\s*,?\s*/, "$1,"));
            for (const each of values) {
              yield* walk(substitute(body, new Map([[name as string, each]]), expansions++), depth + 1);
            }
          }
        } else if (active) {
          const macro = macros.get(statement.name);
          if (!macro) yield statement;
          else {
            if (statement.labels.length > 0) yield { ...statement, name: "", rest: "" };
            yield* walk(expand(line.place, statement, macro), depth + 1);
          }
        }
      }
    }
    if (conditions.length > 0) throw new AsmError(all.at(-1)?.place ?? "?", ".if without .endif");
  }

  function guarded(line: Line, expression: string): bigint {
    try {
      return value(expression);
    } catch (error) {
      throw new AsmError(line.place, error instanceof Error ? error.message : String(error));
    }
  }

  function defineMacro(place: string, rest: string, body: Line[]): void {
    const [name, ...parameters] = splitOperands(rest.replace(/^([\w.]+)\s*,?\s*/, "$1,").replace(/,$/, ""));
    if (name === undefined) throw new AsmError(place, ".macro without a name");
    const parsed = parameters.map((parameter) => {
      const [key, fallback] = parameter.split("=", 2) as [string, string | undefined];
      return { name: key.trim(), fallback: fallback?.trim() };
    });
    macros.set(name.toLowerCase(), { parameters: parsed, body });
  }

  function expand(place: string, statement: Statement, macro: Macro): Line[] {
    const given = splitOperands(statement.rest);
    if (given.length > macro.parameters.length)
      throw new AsmError(place, `too many operands for macro ${statement.name}`);
    const values = new Map<string, string>();
    for (const [n, { name, fallback }] of macro.parameters.entries()) {
      const text = given[n] ?? fallback;
      if (text === undefined) throw new AsmError(place, `macro ${statement.name} needs operand '${name}'`);
      values.set(name, text);
    }
    return substitute(macro.body, values, expansions++);
  }

  yield* walk(lines, 0);
}
