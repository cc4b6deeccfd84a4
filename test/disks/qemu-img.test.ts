// `wherry image` and qemu-img do the same commands in twin directories: exit codes, what is printed, and what
// the images then are. What differs on purpose is not here: messages of errors.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test, vi } from "vitest";
import { WherryError } from "../../src/base/errors.ts";
import { imageCommands } from "../../src/cli/commands/image-command.ts";
import { parseCommandLine } from "../../src/cli/options/command-line.ts";

const top = mkdtempSync(join(tmpdir(), "wherry-qemu-img-"));
afterAll(() => rmSync(top, { recursive: true }));
const hasQemu = spawnSync("qemu-img", ["--version"]).status === 0;

interface Outcome {
  readonly code: number;
  readonly output: string;
}

/** Names of files in the commands are written @NAME. */
const inDirectory = (directory: string, word: string): string => word.replace("@", `${directory}/`);

async function ours(directory: string, words: readonly string[]): Promise<Outcome> {
  const [name = "", ...rest] = words.map((word) => inDirectory(directory, word));
  let output = "";
  const write = vi.spyOn(process.stdout, "write").mockImplementation((text) => {
    output += String(text);
    return true;
  });
  vi.spyOn(process.stderr, "write").mockReturnValue(true);
  try {
    const { options, run } = imageCommands[name as keyof typeof imageCommands];
    const { values, positionals } = parseCommandLine(options, rest);
    return { code: (await run(values, ...positionals)) ?? 0, output };
  } catch (error) {
    if (!(error instanceof WherryError)) throw error;
    return { code: 1, output };
  } finally {
    write.mockRestore();
    vi.restoreAllMocks();
  }
}

function theirs(directory: string, words: readonly string[]): Outcome {
  const { status, stdout } = spawnSync(
    "qemu-img",
    words.map((word) => inDirectory(directory, word)),
    {
      encoding: "utf8",
    },
  );
  return { code: status ?? -1, output: stdout };
}

/** What must be alike: without the directory, sizes on the host, dates, and JSON's blanks. */
function plain(directory: string, { code, output }: Outcome): string {
  const text = output
    .replaceAll(`${directory}/`, "")
    .replaceAll(/ \(actual path: .*\)/g, "")
    .replaceAll(/^disk size.*$/gm, "")
    .replaceAll(/"actual-size": \d+,?/g, "")
    .replaceAll(/"(date-n?sec)": \d+/g, '"$1": 0');
  const isJson = /^\s*[[{]/.test(text);
  return `${code}\n${isJson ? JSON.stringify(sorted(JSON.parse(text.replace(/,(\s*[}\]])/g, "$1")))) : text}`;
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  // Newer releases have it.
  const entries = Object.entries(value).filter(([name]) => name !== "compressed");
  return Object.fromEntries(
    entries.sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, item]) => [name, sorted(item)]),
  );
}

/** Lines of commands; one that begins with `!` is qemu-io's for both. */
const SCRIPTS: Readonly<Record<string, string>> = {
  sizes: `
    create -f qcow2 @a 1
    create -f qcow2 @b 1000
    create -f raw @c 1.5M
    create -f raw @d 0x1000
    create -f qcow2 @e 2T
    create -f qcow2 @f 8E
    create -f qcow2 @g 1e3
    create -f qcow2 @h
    create -f qcow2 -o size=3M @i 2M
    create -f qcow2 @j 0`,
  options: `
    create -f qcow2 -o lazy_refcounts=on,cluster_size=4k @a 1M
    create -f qcow2 -o compat=0.10 @b 1M
    create -f qcow2 -o refcount_bits=1 -o cluster_size=512 @c 1M
    create -q -f qcow2 -o compression_type=zstd,preallocation=off @d 1M
    create -f qcow2 -o cluster_size=100 @e 1M
    create -f qcow2 -o refcount_bits=3 @f 1M
    create -f qcow2 -o compat=0.10,lazy_refcounts=on @g 1M
    create -f qcow2 -o foo=1 @h 1M
    create -qfqcow2 -ocluster_size=8k @i 1M
    info --output=json @i`,
  "backing images": `
    create -f raw @base 1M
    create -f qcow2 -b base -F raw @a
    create -f qcow2 -b base -F raw @b 3M
    create -f qcow2 -b base @c
    create -f qcow2 -b nowhere -F raw @d 1M
    create -u -f qcow2 -b nowhere -F raw @e 1M
    create -u -f qcow2 -b nowhere -F raw @f
    info --backing-chain --output json @a
    info @a
    info --backing-chain @e`,
  "an image that exists": `
    create -f raw @a 2M
    create -f qcow2 @a 1M
    info @a`,
  convert: `
    create -q -f raw @a 1M
    ! write -P 5 64k 64k @a
    convert -c -O qcow2 -f raw @a @b
    check @b
    convert -O qcow2 -o compat=0.10,cluster_size=4k @a @c
    convert -t none -T none -W -m 4 -O qcow2 @a @d
    convert -O qcow2 -B a -F raw @a @e
    convert -c -O raw @a @f
    convert -n -O qcow2 @b @d
    compare @a @d
    convert -n -O raw @a @missing
    create -q -f qcow2 @small 512k
    convert -n -O qcow2 @a @small`,
  resize: `
    create -q -f qcow2 @a 1M
    resize @a +1M
    resize @a 1M
    resize --shrink @a -- -512K
    resize @a +1000
    resize --preallocation=off -q @a 4M
    create -q -f raw @b 1M
    resize -f raw @b 2M
    resize -f raw --shrink @b 1536k`,
  rebase: `
    create -q -f raw @a 1M
    ! write -P 3 0 128k @a
    create -q -f qcow2 -b a -F raw @b
    create -q -f qcow2 @z 2M
    rebase -b @z -F qcow2 @b
    compare -f raw -F qcow2 @a @b
    map --output json @b
    rebase -u -b nothere -F raw @b
    rebase -u -b nothere @b
    rebase -u -b  @b
    info --output json @b`,
  commit: `
    create -q -f qcow2 @a 1M
    create -q -f qcow2 -b a -F qcow2 @b 2M
    create -q -f qcow2 -b b -F qcow2 @c
    ! write -P 7 0 64k @c
    commit @c
    map --output json @c
    commit -d @b
    map --output json @a
    map --output json @b
    commit @a`,
  compare: `
    create -q -f raw @a 1M
    create -q -f raw @b 2M
    compare @a @b
    compare -s @a @b
    ! write -P 1 1500k 4k @b
    compare @a @b
    compare -q @a @b`,
  check: `
    create -q -f raw @a 1M
    check @a
    create -q -f qcow2 @b 1M
    check -q @b
    check --output json @b
    check -r all @b`,
};

test.skipIf(!hasQemu).for(Object.entries(SCRIPTS))("%s as in qemu-img", async ([name, script]) => {
  const [here, there] = ["w", "q"].map((side) =>
    execFileSync("mktemp", ["-d", join(top, `${side}-XXXX`)], { encoding: "utf8" }).trim(),
  ) as [string, string];
  for (const line of script.trim().split("\n")) {
    const words = line.trim().split(" ");
    if (words[0] === "!") {
      for (const directory of [here, there])
        execFileSync("qemu-io", ["-c", words.slice(1, -1).join(" "), inDirectory(directory, words.at(-1)!)], {
          stdio: "ignore",
        });
      continue;
    }
    const [one, other] = [await ours(here, words), theirs(there, words)];
    // Where qemu-img fails, what it has printed before is of no use.
    if (other.code !== 0) expect({ line, code: one.code }).toEqual({ line, code: other.code });
    else expect(`${line}\n${plain(here, one)}`).toBe(`${line}\n${plain(there, other)}`);
  }
  expect(readdirSync(here), name).toEqual(readdirSync(there));
  for (const file of readdirSync(here)) {
    const [one, other] = [here, there].map((directory) =>
      plain(directory, theirs(directory, ["info", "--output", "json", `@${file}`])),
    );
    expect(one, file).toBe(other);
  }
});

test.skipIf(!hasQemu)("snapshots are listed as by qemu-img", async () => {
  const path = join(top, "snapshots");
  execFileSync("qemu-img", ["create", "-q", "-f", "qcow2", path, "1M"]);
  for (const name of ["first", "a longer name"]) execFileSync("qemu-img", ["snapshot", "-c", name, path]);
  for (const words of [
    ["info", "@snapshots"],
    ["info", "--output", "json", "@snapshots"],
  ])
    expect(plain(top, await ours(top, words))).toBe(plain(top, theirs(top, words)));
});

test.skipIf(!hasQemu)("a compressed image may have narrow refcounts, a raw source an odd size", async () => {
  const raw = join(top, "odd");
  writeFileSync(raw, Buffer.alloc(500_003, "some text "));
  for (const bits of [1, 2, 4]) {
    expect(
      (await ours(top, ["convert", "-c", "-O", "qcow2", "-o", `refcount_bits=${bits}`, "@odd", "@narrow"]))
        .code,
    ).toBe(0);
    expect(theirs(top, ["check", "@narrow"]).code).toBe(0);
    expect(theirs(top, ["compare", "@odd", "@narrow"]).code).toBe(0);
  }
  expect(plain(top, await ours(top, ["info", "@odd"]))).toBe(plain(top, theirs(top, ["info", "@odd"])));
  expect(plain(top, await ours(top, ["compare", "@odd", "@narrow"]))).toBe("0\nImages are identical.\n");
  // Zeros stay holes.
  expect((await ours(top, ["create", "-q", "@holes", "8M"])).code).toBe(0);
  expect((await ours(top, ["convert", "-O", "raw", "@holes", "@copy"])).code).toBe(0);
  expect(statSync(join(top, "copy")).blocks).toBeLessThan(64);
});
