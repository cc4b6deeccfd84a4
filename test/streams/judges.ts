// Compares the inspector's report with other sources: QEMU's analyze-migration script field by field, and
// QEMU's monitor at the point where the stream was written.
import { execFileSync } from "node:child_process";
import type { Field, SectionReport, StreamReport } from "../../src/inspect/model/stream-report.ts";
import type { Answers } from "../support/qemu-process.ts";

type Told = string | number | boolean | null | Told[] | { [name: string]: Told };

export interface Verdict {
  /** Number of values that both show. */
  compared: number;
  readonly wrong: string[];
}

/** The script's output for a file, by section; undefined with the reason if it cannot read the file. */
export function analyzed(script: string, file: string): Record<string, Told> | string {
  try {
    const text = execFileSync("python3", [script, "-f", file], {
      encoding: "utf8",
      maxBuffer: 2 ** 30,
      stdio: ["ignore", "pipe", "pipe"],
    });
    return JSON.parse(text) as Record<string, Told>;
  } catch (error) {
    const { stderr } = error as { stderr?: string };
    return (stderr ?? String(error)).trim().split("\n").at(-1)?.slice(0, 100) ?? "";
  }
}

class Comparison {
  readonly verdict: Verdict = { compared: 0, wrong: [] };
  readonly #bytes: Uint8Array;
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  #wrong(path: string, theirs: unknown, ours: unknown): void {
    this.verdict.wrong.push(
      `${path}: the script says ${JSON.stringify(theirs)}, the inspector ${String(ours).slice(0, 60)}`,
    );
  }

  /** Fields of one container, by name: repeated names are a list in the script's output. */
  fields(theirs: { [name: string]: Told }, ours: readonly Field[], path: string): void {
    const named = new Map<string, Field[]>();
    for (const field of ours) named.set(field.name, [...(named.get(field.name) ?? []), field]);
    for (const [name, told] of Object.entries(theirs)) {
      const fields = (named.get(name) ?? []).flatMap((field) =>
        // An array is one field with elements here.
        field.children !== undefined && field.children.every((child) => /^\[\d+\]$/.test(child.name))
          ? field.children
          : [field],
      );
      const list = Array.isArray(told) ? told : [told];
      const [whole] = fields;
      if (fields.length === 1 && list.length > 1 && whole?.value instanceof Uint8Array) {
        this.#long(list, whole, `${path}.${name}`);
        continue;
      }
      if (list.length !== fields.length)
        this.#wrong(`${path}.${name}`, `${list.length} values`, fields.length);
      for (const [i, each] of list.entries()) {
        const field = fields[i];
        if (field !== undefined)
          this.#one(each, field, `${path}.${name}${fields.length > 1 ? `[${i}]` : ""}`);
      }
    }
  }

  /** A long array of numbers is one value here. */
  #long(list: Told[], field: Field, path: string): void {
    const size = field.size / list.length;
    for (const [i, told] of list.entries()) {
      const element = { name: `[${i}]`, type: field.type, offset: field.offset + i * size, size };
      this.#one(told, element, `${path}[${i}]`);
    }
  }

  #one(told: Told, field: Field, path: string): void {
    const raw = this.#bytes.subarray(field.offset, field.offset + field.size);
    if (typeof told === "object" && told !== null && !Array.isArray(told)) {
      this.fields(told, field.children ?? [], path);
      return;
    }
    this.verdict.compared++;
    if (typeof told === "boolean") {
      if (field.value !== told) this.#wrong(path, told, field.value);
    } else if (typeof told === "string" && told.startsWith("0x")) {
      const value = BigInt(told.split(" ")[0] ?? "");
      // The script reads all numbers as big-endian.
      const inStream = BigInt(`0x${Buffer.from(raw).toString("hex")}`);
      const little = field.type.endsWith(" le");
      const shown = typeof field.value === "bigint" ? BigInt.asUintN(field.size * 8, field.value) : undefined;
      if (value !== inStream || (!little && shown !== undefined && shown !== value))
        this.#wrong(path, told, field.value);
    } else if (told === "nullptr") {
      if (Buffer.from(raw).toString() !== "0") this.#wrong(path, told, field.value);
    } else if (typeof told === "string") {
      const hex = [...raw].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
      if (told !== hex) this.#wrong(path, told.slice(0, 60), hex.slice(0, 60));
    }
  }
}

/** Compares the script's values with the report's. `bytes` is the whole file. */
export function compareAnalyzed(
  theirs: Record<string, Told>,
  report: StreamReport,
  bytes: Uint8Array,
): Verdict {
  const comparison = new Comparison(bytes);
  const { wrong } = comparison.verdict;
  const sections = new Map<string, SectionReport>();
  for (const section of report.sections) {
    const key = `${section.idstr} (${section.id})`;
    if (!sections.has(key)) sections.set(key, section);
  }
  for (const [key, told] of Object.entries(theirs)) {
    if (typeof told !== "object" || told === null || Array.isArray(told)) continue;
    const sizes = told["section sizes"];
    if (key.startsWith("ram (")) {
      for (const [name, size] of Object.entries(sizes ?? {})) {
        comparison.verdict.compared++;
        const block = report.ram.find((each) => each.name === name);
        if (block === undefined || BigInt(block.size) !== BigInt(String(size)))
          wrong.push(`ram block ${name}: the script says ${size}, the inspector ${block?.size}`);
      }
      continue;
    }
    const section = sections.get(key);
    if (section === undefined) {
      if (!key.startsWith("configuration")) wrong.push(`${key}: only the script has it`);
    } else comparison.fields(told, section.fields, key);
  }
  return comparison.verdict;
}

function find(fields: readonly Field[], name: string): Field | undefined {
  for (const field of fields) {
    const found = field.name === name ? field : find(field.children ?? [], name);
    if (found !== undefined) return found;
  }
  return undefined;
}

/**
 * Registers that the monitor prints for each vCPU (one value, or several in the brackets), and their fields.
 */
interface Register {
  readonly field: string;
  readonly told: RegExp;
  /** The field's index of each printed value, if it is not its position. */
  readonly order?: readonly number[];
}
const CSRS = "medeleg mtvec stvec mepc sepc mcause scause mtval stval mscratch sscratch satp mie".split(" ");
const REGISTERS: Record<string, readonly Register[]> = {
  riscv64: [
    { field: "env.pc", told: /^ pc +([0-9a-f]+)/gm },
    { field: "env.gpr", told: /\bx\d+\/\w+ +([0-9a-f]+)/g },
    ...CSRS.map((name) => ({ field: `env.${name}`, told: new RegExp(`^ ${name} +([0-9a-f]+)`, "gm") })),
  ],
  x86_64: [
    { field: "env.eip", told: /\b[RE]IP=([0-9a-f]+)/g },
    { field: "env.eflags", told: /\b[RE]FL=([0-9a-f]+)/g },
    {
      field: "env.regs",
      told: /\b[RE](?:[ABCD]X|[SD]I|[BS]P)=([0-9a-f]+)/g,
      order: [0, 3, 1, 2, 6, 7, 5, 4],
    },
  ],
  aarch64: [
    { field: "env.pc", told: /\bPC=([0-9a-f]+)/g },
    { field: "env.xregs", told: /\b(?:X\d\d|SP)=([0-9a-f]+)/g },
  ],
  ppc64: [
    { field: "env.nip", told: /\bNIP ([0-9a-f]+)/g },
    { field: "env.gpr", told: /^GPR\d\d ([0-9a-f ]+)/gm },
    { field: "env.msr", told: /^MSR ([0-9a-f]+)/gm },
  ],
  s390x: [
    { field: "env.psw.addr", told: /PSW=mask [0-9a-f]+ addr ([0-9a-f]+)/g },
    { field: "env.psw.mask", told: /PSW=mask ([0-9a-f]+)/g },
    { field: "env.regs", told: /\bR\d\d=([0-9a-f]+)/g },
    { field: "env.cregs", told: /\bC\d\d=([0-9a-f]+)/g },
  ],
};

function compareRegisters(verdict: Verdict, target: string, text: string, report: StreamReport): void {
  for (const { field, told, order } of REGISTERS[target] ?? []) {
    const theirs = [...text.matchAll(told)].flatMap(([, words = ""]) => words.trim().split(" "));
    const harts = report.sections.flatMap(({ fields }) => find(fields, field) ?? []);
    const ours = harts.flatMap(({ value, children = [] }) => {
      const values = value === undefined ? children.map((child) => child.value) : [value];
      return order === undefined ? values : order.map((index) => values[index]);
    });
    if (theirs.length !== ours.length || theirs.length === 0)
      verdict.wrong.push(`${field}: the monitor has ${theirs.length} values, the inspector ${ours.length}`);
    for (const [i, word] of theirs.entries()) {
      verdict.compared++;
      const value = ours[i];
      // In a 32-bit mode, values are printed with 32 bits.
      if (typeof value !== "bigint" || BigInt.asUintN(4 * word.length, value) !== BigInt(`0x${word}`))
        verdict.wrong.push(
          `${field}: value ${i} is ${word} to the monitor, ${String(value)} to the inspector`,
        );
    }
  }
}

interface Queue {
  readonly "vring-num": number;
  readonly "vring-desc": number;
  readonly "last-avail-idx": number;
}
interface VirtioStatus {
  readonly name: string;
  readonly isr: number;
  readonly "queue-sel": number;
  readonly "guest-features": { readonly "dev-features"?: string[]; readonly transports: string[] };
  readonly status: { readonly statuses: string[] };
}

/**
 * The state of a device that both can show, as text, with the queues that the guest has set up. Equal devices
 * have equal texts.
 */
function monitorsDevice(status: VirtioStatus, queues: readonly (Queue | null)[]): string {
  const words = (texts: readonly string[] = []) => texts.map((text) => text.split(":")[0] ?? "");
  const features = status["guest-features"];
  const names = [...words(features["dev-features"]), ...words(features.transports)]
    // The newer name of the same feature.
    .map((each) => each.replace("IOMMU_PLATFORM", "ACCESS_PLATFORM"));
  const state = words(status.status.statuses).map((text) => text.replace("VIRTIO_CONFIG_S_", ""));
  const rings = queues.flatMap((queue, i) =>
    queue !== null && queue["vring-desc"] > 0
      ? [`${i}: ${queue["vring-num"]} ${queue["vring-desc"]} ${queue["last-avail-idx"]}`]
      : [],
  );
  return deviceText(names, state, status.isr, status["queue-sel"], rings);
}

function deviceText(
  names: string[],
  state: string[],
  isr: unknown,
  selected: unknown,
  rings: string[],
): string {
  const known = names.filter((name) => name.startsWith("VIRTIO_")).toSorted();
  return `${known.join(" ")}; ${state.toSorted().join(" ")}; isr ${isr}, queue_sel ${selected}; ${rings.join(", ")}`;
}

function inspectorsDevice(section: SectionReport): string {
  const fields = find(section.fields, "virtio")?.children ?? [];
  const own = (name: string) => fields.find((field) => field.name === name);
  const words = (field: Field | undefined) =>
    (field?.meaning ?? "").split(" ").filter((word) => word !== "" && word !== "reset");
  const all = find(find(fields, "virtio/64bit_features")?.children ?? [], "guest_features");
  const rings = (find(fields, "vq")?.children ?? []).flatMap(({ children = [] }, i) => {
    const [num, desc, last] = ["vring.num", "vring.desc", "last_avail_idx"].map(
      (name) => find(children, name)?.value,
    );
    return desc === undefined || desc === 0n ? [] : [`${i}: ${num} ${desc} ${last}`];
  });
  const features = words(all ?? own("guest_features"));
  return deviceText(features, words(own("status")), own("isr")?.value, own("queue_sel")?.value, rings);
}

/** The monitor's name for a device → its vmsd. */
const VMSD: Record<string, string> = { "virtio-serial": "virtio-console" };

function compareVirtio(verdict: Verdict, answers: Answers, report: StreamReport): void {
  const ours = new Map<string, string[]>();
  for (const section of report.sections) {
    const name = section.vmsdName ?? "";
    if (name.startsWith("virtio-")) ours.set(name, [...(ours.get(name) ?? []), inspectorsDevice(section)]);
  }
  for (const { status, queues } of Object.values(answers.virtio)) {
    const told = status as unknown as VirtioStatus;
    const vmsd = VMSD[told.name] ?? told.name;
    const theirs = monitorsDevice(told, queues as unknown as (Queue | null)[]);
    const list = ours.get(vmsd) ?? [];
    verdict.compared++;
    // The monitor does not distinguish equal models.
    if (list.includes(theirs)) list.splice(list.indexOf(theirs), 1);
    else verdict.wrong.push(`${vmsd}: the monitor says ${theirs}; the inspector ${list.join(" or ")}`);
  }
}

/** Compares the monitor's answers at the stopped point with the report. */
export function compareMonitor(target: string, answers: Answers, report: StreamReport): Verdict {
  const verdict: Verdict = { compared: 0, wrong: [] };
  compareRegisters(verdict, target, answers.hmp["info registers -a"] ?? "", report);
  compareVirtio(verdict, answers, report);
  return verdict;
}
