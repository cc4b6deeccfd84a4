// A hart's registers as `info registers` shows them: pc and CSRs one on a line, then the integer and
// floating-point registers, four on a line.
import { F_NAMES, X_NAMES } from "../riscv/abi-names.ts";

type Registers = Readonly<Record<string, string>>;

const digits = (text: string) => BigInt(text).toString(16).padStart(16, "0");

/** `registers` by name, as 0x-prefixed hexadecimal. */
export function registersText(registers: Registers): string {
  const inFile = (name: string) => /^[xf]([0-9]|[12][0-9]|3[01])$/.test(name);
  const rest = Object.entries(registers).filter(([name]) => !inFile(name) && name !== "pc");
  const out = [["pc", registers["pc"] ?? "0"] as const, ...rest].map(
    ([name, value]) => ` ${name.padEnd(8)} ${digits(value)}\n`,
  );
  const files = [
    ["x", X_NAMES],
    ["f", F_NAMES],
  ] as const;
  for (const [letter, names] of files) {
    const all = names.flatMap((abi, n) => {
      const value = n === 0 && letter === "x" ? "0x0" : registers[`${letter}${n}`];
      return value === undefined ? [] : [`${`${letter}${n}/${abi}`.padEnd(8)} ${digits(value)}`];
    });
    for (let i = 0; i < all.length; i += 4) out.push(` ${all.slice(i, i + 4).join(" ")}\n`);
  }
  return out.join("");
}

/** A register by its name or the calling convention's; undefined if there is none. */
export function registerValue(registers: Registers, name: string): bigint | undefined {
  const x = name === "fp" ? 8 : X_NAMES.indexOf(name);
  const f = F_NAMES.indexOf(name);
  if (x === 0 || name === "x0") return 0n;
  const key = x > 0 ? `x${x}` : f >= 0 ? `f${f}` : name;
  return Object.hasOwn(registers, key) ? BigInt(registers[key]!) : undefined;
}
