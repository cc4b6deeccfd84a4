// Debian version numbers: [epoch:]upstream[-revision], compared as deb-version(7) defines it.

/** The order of a character outside digits: a tilde before the end, letters before all others. */
function order(char: string | undefined): number {
  if (char === "~") return -1;
  if (char === undefined || /\d/.test(char)) return 0;
  return /[A-Za-z]/.test(char) ? char.charCodeAt(0) : char.charCodeAt(0) + 256;
}

function compareParts(a: string, b: string): number {
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    while ((i < a.length && !/\d/.test(a[i] as string)) || (j < b.length && !/\d/.test(b[j] as string))) {
      const difference = order(a[i]) - order(b[j]);
      if (difference !== 0) return difference;
      i++;
      j++;
    }
    const [x, y] = [/^\d*/.exec(a.slice(i))?.[0] ?? "", /^\d*/.exec(b.slice(j))?.[0] ?? ""];
    const difference = BigInt(x) - BigInt(y);
    if (difference !== 0n) return difference < 0n ? -1 : 1;
    i += x.length;
    j += y.length;
  }
  return 0;
}

/** Negative, 0 or positive, as `a` is older than, the same as or newer than `b`. */
export function compareVersions(a: string, b: string): number {
  const split = (version: string): [string, string, string] => {
    const [, epoch = "0", rest] = /^(?:(\d+):)?(.*)$/s.exec(version) as unknown as [
      string,
      string | undefined,
      string,
    ];
    const dash = rest.lastIndexOf("-");
    return dash < 0 ? [epoch, rest, ""] : [epoch, rest.slice(0, dash), rest.slice(dash + 1)];
  };
  const [x, y] = [split(a), split(b)];
  return compareParts(x[0], y[0]) || compareParts(x[1], y[1]) || compareParts(x[2], y[2]);
}

export type Relation = "<<" | "<=" | "=" | ">=" | ">>";

/** Whether `version` stands in the relation to `wanted`. */
export function satisfies(version: string, relation: Relation, wanted: string): boolean {
  const order = compareVersions(version, wanted);
  switch (relation) {
    case "<<":
      return order < 0;
    case "<=":
      return order <= 0;
    case "=":
      return order === 0;
    case ">=":
      return order >= 0;
    case ">>":
      return order > 0;
  }
}
