// Integer expressions of the assembler: C's operators and precedences over 64-bit two's complement,
// symbols, character constants, the location counter `.` and numeric labels (1b, 1f).

/** Returns a symbol's value; "." is the location counter. Throws if the symbol does not exist. */
export type SymbolLookup = (name: string) => bigint;

const TOKEN =
  /\s*(0[xX][0-9a-fA-F]+|0[bB][01]+|[0-9]+[bf](?![0-9a-zA-Z_])|[0-9]+|'(?:\\.|[^'\\])'|[A-Za-z_.$][\w.$]*|<<|>>|==|!=|<=|>=|&&|\|\||[-+*/%&|^~!()<>])/y;

const LEVELS: readonly (readonly string[])[] = [
  ["||"],
  ["&&"],
  ["|"],
  ["^"],
  ["&"],
  ["==", "!="],
  ["<", ">", "<=", ">="],
  ["<<", ">>"],
  ["+", "-"],
  ["*", "/", "%"],
];

const ESCAPES: Readonly<Record<string, number>> = { n: 10, r: 13, t: 9, "0": 0, "\\": 92, "'": 39, '"': 34 };

/**
 * The bytes of a quoted text without the quotes, escapes resolved (
 *  \r \t \0 \\ \' \").
 */
export function unescape(text: string): number[] {
  const out: number[] = [];
  for (let i = 0; i < text.length; i++) {
    if (text[i] !== "\\") out.push(text.charCodeAt(i));
    else {
      const c = text[++i] ?? "";
      const code = ESCAPES[c];
      if (code === undefined) throw new Error(`unknown escape \\${c}`);
      out.push(code);
    }
  }
  return out;
}

function apply(op: string, a: bigint, b: bigint): bigint {
  switch (op) {
    case "||":
      return BigInt(a !== 0n || b !== 0n);
    case "&&":
      return BigInt(a !== 0n && b !== 0n);
    case "|":
      return a | b;
    case "^":
      return a ^ b;
    case "&":
      return a & b;
    case "==":
      return BigInt(a === b);
    case "!=":
      return BigInt(a !== b);
    case "<":
      return BigInt(a < b);
    case ">":
      return BigInt(a > b);
    case "<=":
      return BigInt(a <= b);
    case ">=":
      return BigInt(a >= b);
    case "<<":
      return a << b;
    case ">>":
      return BigInt.asUintN(64, a) >> b;
    case "+":
      return a + b;
    case "-":
      return a - b;
    case "*":
      return a * b;
    default:
      if (b === 0n) throw new Error("division by zero");
      return op === "/" ? a / b : a % b;
  }
}

/**
 * The value as a signed 64-bit integer. Throws Error (without a place) on bad syntax or an unknown symbol.
 */
export function evaluate(text: string, lookup: SymbolLookup): bigint {
  const tokens: string[] = [];
  TOKEN.lastIndex = 0;
  let at = 0;
  const end = text.trimEnd().length;
  while (at < end) {
    const match = TOKEN.exec(text);
    if (!match) throw new Error(`cannot read '${text.slice(at).trim()}' in expression '${text.trim()}'`);
    tokens.push(match[1] as string);
    at = TOKEN.lastIndex;
  }
  let next = 0;

  const primary = (): bigint => {
    const token = tokens[next++];
    if (token === undefined) throw new Error(`expression '${text.trim()}' ends early`);
    if (token === "(") {
      const value = binary(0);
      if (tokens[next++] !== ")") throw new Error(`missing ')' in '${text.trim()}'`);
      return value;
    }
    if (token === "-") return -primary();
    if (token === "+") return primary();
    if (token === "~") return ~primary();
    if (token === "!") return BigInt(primary() === 0n);
    if (token.startsWith("'")) return BigInt(unescape(token.slice(1, -1))[0] as number);
    if (/^[0-9]+[bf]$/.test(token) && !/^0[bB]/.test(token)) return lookup(token);
    if (/^[0-9]/.test(token)) return BigInt(token);
    if (/^[A-Za-z_.$]/.test(token)) return lookup(token);
    throw new Error(`unexpected '${token}' in '${text.trim()}'`);
  };
  const binary = (level: number): bigint => {
    const operators = LEVELS[level];
    if (!operators) return primary();
    let value = binary(level + 1);
    for (let op = tokens[next]; op !== undefined && operators.includes(op); op = tokens[next]) {
      next++;
      value = BigInt.asIntN(64, apply(op, value, binary(level + 1)));
    }
    return value;
  };

  const value = binary(0);
  if (next !== tokens.length) throw new Error(`unexpected '${tokens[next]}' in '${text.trim()}'`);
  return BigInt.asIntN(64, value);
}
