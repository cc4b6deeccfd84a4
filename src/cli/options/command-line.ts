// Options as tables: one table gives the parser, the types of the values, and the text of --help. Node's
// util.parseArgs splits the arguments; the strict checks are ours, so that an error can suggest a correction.
import { parseArgs } from "node:util";
import { messageOf } from "../../base/errors.ts";
import { nearest } from "../../base/nearest.ts";
import { UsageError } from "../output/cli-error.ts";

interface Flag {
  readonly help: string;
  /** One letter: the option's name in programs whose users know it so, after one dash. */
  readonly short?: string;
}
interface ValueOption<T> extends Flag {
  /** The placeholder of the value in --help, such as `FILE`. */
  readonly value: string;
  /** Throws an Error that says what was expected. */
  readonly parse: (text: string) => T;
  /** May be given several times; the result is an array. */
  readonly many?: true;
}
export type Options = { readonly [name: string]: Flag | ValueOption<unknown> };

export type ValuesOf<O extends Options> = {
  readonly [K in keyof O]: O[K] extends ValueOption<infer T>
    ? O[K] extends { many: true }
      ? readonly T[]
      : T | undefined
    : boolean;
};

/** A free text or path. */
export const text = (value: string) => value;

const isValueOption = (option: Flag): option is ValueOption<unknown> => "parse" in option;

export interface ParsedCommandLine<O extends Options> {
  readonly values: ValuesOf<O>;
  readonly positionals: readonly string[];
}

/** Parses the arguments after the command's name. Throws UsageError. */
export function parseCommandLine<O extends Options>(
  options: O,
  args: readonly string[],
): ParsedCommandLine<O> {
  for (const arg of args) {
    if (arg === "--") break;
    // QEMU's long options have one dash; parseArgs would read them as several short ones.
    // `-fqcow2` and `-pq` are of programs whose users know one-letter options.
    const isShort = Object.values(options).some(({ short }) => short !== undefined && arg[1] === short);
    if (/^-[a-z]/.test(arg) && !isShort) throw unknownOption(arg, options);
  }
  const { tokens } = parseArgs({
    args: [...args],
    strict: false,
    allowPositionals: true,
    tokens: true,
    options: Object.fromEntries(
      Object.entries(options).map(([name, option]) => [
        name,
        {
          type: isValueOption(option) ? "string" : "boolean",
          ...(option.short === undefined ? {} : { short: option.short }),
        },
      ]),
    ),
  });
  const values: Record<string, unknown> = {};
  for (const [name, option] of Object.entries(options)) {
    values[name] = isValueOption(option) ? (option.many === true ? [] : undefined) : false;
  }
  const seen = new Set<string>();
  for (const token of tokens) {
    if (token.kind !== "option") continue;
    const option = Object.hasOwn(options, token.name) ? options[token.name] : undefined;
    if (option === undefined) throw unknownOption(token.rawName, options);
    const many = isValueOption(option) && option.many === true;
    if (seen.has(token.name) && !many) throw new UsageError(`${token.rawName} is given twice`);
    seen.add(token.name);
    if (!isValueOption(option)) {
      if (token.value !== undefined)
        throw new UsageError(`${token.rawName} takes no value, found '${token.value}'`);
      values[token.name] = true;
      continue;
    }
    const value = parseValue(token.rawName, option, token.value, token.inlineValue === true);
    if (many) (values[token.name] as unknown[]).push(value);
    else values[token.name] = value;
  }
  const positionals = tokens.filter((token) => token.kind === "positional").map(({ value }) => value);
  return { values: values as ValuesOf<O>, positionals };
}

function parseValue(
  name: string,
  option: ValueOption<unknown>,
  value: string | undefined,
  inline: boolean,
): unknown {
  // In `--kernel --paused` the file is missing; a file name with a leading dash is written `--kernel=-file`.
  if (value === undefined || (!inline && value.startsWith("-"))) {
    throw new UsageError(`${name} needs a value: ${name} ${option.value}`);
  }
  return parsed(name, value, option.parse);
}

/** Parses the value of `name`, which may be a positional. Throws UsageError that names both. */
export function parsed<T>(name: string, value: string, parse: (value: string) => T): T {
  try {
    return parse(value);
  } catch (error) {
    throw new UsageError(`${name} ${value}: ${messageOf(error)}`);
  }
}

function unknownOption(typed: string, options: Options): UsageError {
  const name = typed.replace(/^-+/, "").replace(/=.*$/, "");
  const meant = nearest(name, Object.keys(options));
  return new UsageError(`unknown option ${typed}${meant === undefined ? "" : `; did you mean --${meant}?`}`);
}

/** The options' part of --help: one line for each option, long help wrapped and indented. */
export function optionsHelp(options: Options): string {
  const rows = Object.entries(options).map(([name, option]) => ({
    left: `  ${option.short === undefined ? "" : `-${option.short}, `}--${name}${isValueOption(option) ? ` ${option.value}` : ""}`,
    help: option.help,
  }));
  const column = 28;
  const lines = rows.flatMap(({ left, help }) => {
    const wrapped = wrap(help, 100 - column);
    const first = left.length < column - 1 ? [left.padEnd(column) + wrapped.shift()] : [left];
    return [...first, ...wrapped.map((line) => " ".repeat(column) + line)];
  });
  return lines.join("\n");
}

function wrap(help: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of help.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return [...lines, line];
}
