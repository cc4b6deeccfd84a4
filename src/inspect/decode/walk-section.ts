// Walks the bytes of a device section along its description: every field by name, arrays, structs, lists,
// trees, and subsections with their marks (QEMU's migration/vmstate.c and vmstate-types.c). Fields that the
// description leaves opaque go to decode/opaque.ts. The description is as untrusted as the bytes: sizes
// are checked against the section's end.
import { EndOfBytes } from "../../base/bytes.ts";
import { decodeUtf8 } from "../../base/text.ts";
import { QEMU_VM } from "../../stream/wire.ts";
import { describeValue } from "./meanings.ts";
import { decodeOpaque, type OpaqueContext } from "./opaque.ts";
import { type DescribedField, type DescribedStruct, describedSize } from "../model/description.ts";
import { FieldReader, TooManyFields } from "./fields.ts";
import type { Field, FieldValue, Problem } from "../model/stream-report.ts";
import { InspectError, problem, stop } from "../model/problems.ts";

export interface WalkContext {
  readonly idstr: string;
  readonly instanceId: number;
  readonly version: number;
  readonly machine: string | undefined;
}

export interface Walked {
  readonly fields: Field[];
  /** Bytes without a field: after the described ones, or left over by a decoder. */
  readonly unaccounted: number;
  readonly warnings: Problem[];
}

/** Most Field objects for a stream; later fields are plain bytes. */
export interface FieldBudget {
  left: number;
}
export const MAX_FIELDS = 1_000_000;

/** Most elements of an array that become separate fields; a longer array is one field. */
const MAX_ELEMENTS = 16_384;
/** Most warnings of one section. */
const MAX_WARNINGS = 20;
const NULL_MARK = 0x30;

type OpenField = { -readonly [K in keyof Field]: Field[K] };
type Scope = Pick<OpaqueContext, "version" | "vmsdName">;

/**
 * Reads all of `bytes`, which start at stream offset `base`. Without a description, they are one opaque
 * field.
 */
export function walkSection(
  bytes: Uint8Array,
  base: number,
  description: DescribedStruct | undefined,
  context: WalkContext,
  budget: FieldBudget,
): Walked {
  return new Walker(bytes, base, context, budget).section(description);
}

class Walker {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #base: number;
  readonly #context: WalkContext;
  readonly #budget: FieldBudget;
  readonly #warnings: Problem[] = [];
  #unaccounted = 0;
  #at = 0;
  /** Bytes of the section beyond its description. */
  #surplus = 0;

  constructor(bytes: Uint8Array, base: number, context: WalkContext, budget: FieldBudget) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#base = base;
    this.#context = context;
    this.#budget = budget;
  }

  get #where(): string {
    return `section ${this.#context.idstr}/${this.#context.instanceId}`;
  }
  get #left(): number {
    return this.#bytes.length - this.#at;
  }

  section(description: DescribedStruct | undefined): Walked {
    const fields: Field[] = [];
    const scope: Scope = { version: this.#context.version };
    if (description === undefined) {
      const field: DescribedField = { name: "data", type: "data", size: this.#left, structs: [] };
      this.#opaque(field, field.name, scope, fields, true);
    } else {
      this.#surplus = this.#left - describedSize(description);
      try {
        this.#struct(description, scope, fields, "");
      } catch (error) {
        if (!(error instanceof InspectError)) throw error;
        this.#warn(error.problem);
      }
      this.#rest(fields);
    }
    return { fields, unaccounted: this.#unaccounted, warnings: this.#warnings };
  }

  /** Adds the bytes up to `end` as an unknown field. */
  #unknown(end: number, fields: Field[]): void {
    const size = end - this.#at;
    if (size === 0) return;
    this.#unaccounted += size;
    this.#add("rest", "unknown", size, this.#bytes.slice(this.#at, end), fields);
  }

  #rest(fields: Field[]): void {
    const described = this.#at;
    const all = this.#bytes.length;
    this.#unknown(all, fields);
    if (described === all || this.#warnings.length > 0) return;
    const expected = `${described} bytes, the size in the VMDESCRIPTION`;
    this.#warn(problem("stream.size", this.#where, this.#base + described, expected, `${all} bytes`));
  }

  #warn(warning: Problem): void {
    if (this.#warnings.length < MAX_WARNINGS) this.#warnings.push(warning);
  }

  #need(size: number, path: string): void {
    if (size <= this.#left) return;
    stop(
      "stream.size",
      this.#where,
      this.#base + this.#at,
      `${size} bytes for ${path}`,
      `${this.#left} bytes to the section's end`,
    );
  }

  /** Adds a container to `fields`, which `read` fills. Its size is right even if `read` throws. */
  #container(name: string, type: string, fields: Field[], read: (children: Field[]) => void): void {
    const children: Field[] = [];
    const start = this.#at;
    const field: OpenField = { name, offset: this.#base + start, size: 0, type, children };
    fields.push(field);
    this.#budget.left--;
    try {
      read(children);
    } finally {
      field.size = this.#at - start;
    }
  }

  #struct(struct: DescribedStruct, outer: Scope, fields: Field[], path: string): void {
    const scope: Scope = {
      version: struct.version ?? outer.version,
      ...(struct.vmsdName === undefined ? {} : { vmsdName: struct.vmsdName }),
    };
    const all = struct.fields;
    for (let i = 0; i < all.length; ) {
      const first = all[i]!;
      let end = i + 1;
      while (all[end]?.name === first.name) end++;
      const group = all.slice(i, end);
      i = end;
      if (group.length === 1 && first.arrayLength === undefined && first.index === undefined) {
        this.#field(first, first.name, scope, fields, `${path}${first.name}`);
      } else this.#array(group, scope, fields, path);
    }
    for (const subsection of struct.subsections) this.#subsection(subsection, fields, path);
  }

  #subsection(struct: DescribedStruct, fields: Field[], path: string): void {
    const name = struct.vmsdName ?? "";
    const start = this.#at;
    const head = this.#bytes.subarray(start, start + 2);
    const found = decodeUtf8(this.#bytes.subarray(start + 2, start + 2 + (head[1] ?? 0)));
    if (head[0] !== QEMU_VM.SUBSECTION || found !== name || this.#left < 2 + (head[1] ?? 0) + 4) {
      const what = head[0] === QEMU_VM.SUBSECTION ? `subsection ${found}` : `byte ${head[0] ?? "none"}`;
      stop("stream.subsection", this.#where, this.#base + start, `subsection ${name}`, what);
    }
    const headSize = 2 + head[1]! + 4;
    const version = this.#view.getUint32(start + headSize - 4);
    this.#container(name, "subsection", fields, (children) => {
      const value = this.#bytes.slice(start, start + headSize);
      this.#add("header", "subsection header", headSize, value, children, `version ${version}`);
      this.#struct(struct, { version }, children, `${path}${name}/`);
    });
  }

  /**
   * Reads the elements of one array: described one by one, many of one kind by the first, or in runs of both.
   */
  #array(group: readonly DescribedField[], scope: Scope, fields: Field[], path: string): void {
    const first = group[0]!;
    const name = `${path}${first.name}`;
    const total = group.reduce((sum, field) => sum + (field.arrayLength ?? 1), 0);
    if (group.length === 1 && (total > MAX_ELEMENTS || (total > 1 && first.size === 0))) {
      // A large array of numbers is one field, and a hostile count costs nothing.
      const size = first.size * total;
      this.#need(size, name);
      const type = `${first.type}[${total}]`;
      this.#opaque({ ...first, type, size }, first.name, scope, fields, false);
      return;
    }
    const type = group.at(-1)!.type;
    this.#container(first.name, `${type}[${total}]`, fields, (children) => {
      let index = 0;
      for (const field of group) {
        const { arrayLength = 1 } = field;
        // After the limit of fields, elements stay in one field, too.
        const many = arrayLength > MAX_ELEMENTS || (arrayLength > 1 && this.#budget.left <= 0);
        const run = many
          ? { ...field, type: `${field.type}[${arrayLength}]`, size: field.size * arrayLength, structs: [] }
          : field;
        for (let i = 0; i < (many ? 1 : arrayLength); i++) {
          if (!many && this.#hidesElement(field)) {
            this.#hidden(arrayLength - i, name, children);
            break;
          }
          // The mark before a non-null element belongs to that element.
          const marked = field.type === "ptr-marker" && this.#bytes[this.#at] !== NULL_MARK;
          const label = `[${index}]`;
          this.#field(run, marked ? `${label}.marker` : label, scope, children, `${name}${label}`);
          if (!marked) index += many ? arrayLength : 1;
        }
      }
    });
  }

  /**
   * Before 10.0 an array of pointers is described by its first element: if that is null, the others are not
   * described.
   */
  #hidesElement({ structs, size }: DescribedField): boolean {
    const [only] = structs;
    const mark = this.#bytes[this.#at];
    return only?.fields.length === 0 && size === 1 && this.#surplus > 0 && mark !== NULL_MARK;
  }

  /** Reads the rest of such an array, so that the following fields have the right offsets. */
  #hidden(elements: number, path: string, children: Field[]): void {
    const size = elements + this.#surplus;
    this.#need(size, path);
    const expected = `${elements} null pointers at the end of ${path}`;
    this.#warn(
      problem(
        "stream.size",
        this.#where,
        this.#base + this.#at,
        expected,
        `${size} bytes, not all of them null`,
      ),
    );
    this.#surplus = 0;
    this.#unknown(this.#at + size, children);
  }

  #field(field: DescribedField, name: string, scope: Scope, fields: Field[], path: string): void {
    const { size, structs, type } = field;
    this.#need(size, path);
    if (this.#budget.left <= 0) return this.#plain(name, type, size, fields);
    const end = this.#at + size;
    const only = structs[0];
    if (only === undefined) return this.#value(field, name, scope, fields);
    if (size === 1 && only.fields.length === 0 && this.#bytes[this.#at] === NULL_MARK) {
      return this.#null(name, fields);
    }
    const inside = (read: (children: Field[]) => void): void =>
      this.#container(name, type, fields, (children) => this.#within(end, path, children, read));
    if (type === "struct" || type === "vstruct" || type === "tmp") {
      inside((children) => this.#struct(only, scope, children, `${path}.`));
    } else if (LISTS.has(type)) {
      inside((children) => this.#list(field, scope, children, path));
    } else if (structs.reduce((sum, struct) => sum + describedBytes(struct), 0) === size) {
      inside((children) => {
        for (const struct of structs) this.#struct(struct, scope, children, `${path}.`);
      });
    } else this.#opaque(field, name, scope, fields, false);
  }

  /**
   * Reads a container that should end at `end`. Bytes without a field are shown as they are; reading
   * continues after `end`.
   */
  #within(end: number, path: string, children: Field[], read: (children: Field[]) => void): void {
    const start = this.#at;
    let wrong: Problem | undefined;
    try {
      read(children);
    } catch (error) {
      if (!(error instanceof InspectError) || this.#at > end) throw error;
      wrong = error.problem;
    }
    if (this.#at === end && wrong === undefined) return;
    const expected = `${end - start} bytes for ${path}`;
    wrong ??= problem(
      "stream.size",
      this.#where,
      this.#base + start,
      expected,
      `${this.#at - start} bytes in its fields`,
    );
    if (this.#at > end) throw new InspectError(wrong);
    this.#warn(wrong);
    this.#unknown(end, children);
  }

  /**
   * QTAILQ and QLIST: a byte 1 before each element, a byte 0 after the last. GTREE: the count, then key and
   * value of each node.
   */
  #list({ type, structs }: DescribedField, scope: Scope, fields: Field[], path: string): void {
    const byte = (name: string): number => {
      this.#need(1, `${path}.${name}`);
      const value = this.#bytes[this.#at]!;
      this.#add(name, "uint8", 1, BigInt(value), fields);
      return value;
    };
    const mark = (name: string, expected: number): void => {
      const found = byte(name);
      if (found === expected) return;
      stop(
        "stream.size",
        this.#where,
        this.#base + this.#at - 1,
        `${expected} as ${path}.${name}`,
        `${found}`,
      );
    };
    let nodes = structs.length;
    const tree = type === "gtree";
    if (tree) {
      this.#need(4, `${path}.nodes`);
      nodes = this.#view.getUint32(this.#at);
      this.#add("nodes", "uint32", 4, BigInt(nodes), fields);
    }
    const perNode = tree && structs.length === 2 * nodes ? 2 : 1;
    for (let i = 0; i < structs.length; i += perNode) {
      const label = `[${i / perNode}]`;
      mark(`${label}.more`, 1);
      if (tree && perNode === 1) {
        this.#need(8, `${path}${label}.key`);
        this.#add(`${label}.key`, "uint64", 8, this.#view.getBigUint64(this.#at), fields);
      }
      for (const struct of structs.slice(i, i + perNode)) {
        const name = perNode === 2 && struct === structs[i] ? `${label}.key` : label;
        this.#container(name, "struct", fields, (children) =>
          this.#struct(struct, scope, children, `${path}${label}.`),
        );
      }
    }
    mark("end", 0);
  }

  #add(name: string, type: string, size: number, value: FieldValue, fields: Field[], meaning?: string): void {
    const offset = this.#base + this.#at;
    fields.push({ name, offset, size, type, value, ...(meaning === undefined ? {} : { meaning }) });
    this.#at += size;
    this.#budget.left--;
  }
  #plain(name: string, type: string, size: number, fields: Field[]): void {
    const value = this.#bytes.slice(this.#at, this.#at + size);
    this.#add(name, type, size, value, fields, describeValue(name, type, value));
  }
  #null(name: string, fields: Field[]): void {
    this.#add(name, "nullptr", 1, BigInt(NULL_MARK), fields, "null");
  }

  #value(field: DescribedField, name: string, scope: Scope, fields: Field[]): void {
    const { type, size } = field;
    const mark = this.#bytes[this.#at];
    if (type === "nullptr" || (type === "uint64" && size === 1 && mark === NULL_MARK)) {
      if (size === 1) return this.#null(name, fields);
    }
    const scalar = size === 0 ? undefined : SCALARS.get(type);
    if (scalar === undefined || (scalar.size !== undefined && scalar.size !== size)) {
      return this.#opaque(field, name, scope, fields, false);
    }
    if (type === "bool") return this.#add(name, type, size, mark !== 0, fields);
    let value = 0n;
    for (let i = 0; i < size; i++) {
      value = (value << 8n) | BigInt(this.#bytes[this.#at + i]!);
    }
    if (scalar.signed === true) value = BigInt.asIntN(size * 8, value);
    const full = name.startsWith("[") ? field.name + name : field.name;
    const meaning = type === "ptr-marker" ? "pointer" : describeValue(full, type, value);
    this.#add(name, type, size, value, fields, meaning);
  }

  /** With `whole` it is a section without a description; bytes that no decoder knows are unaccounted for. */
  #opaque(field: DescribedField, name: string, scope: Scope, fields: Field[], whole: boolean): void {
    const { size, type } = field;
    const start = this.#at;
    if (size === 0 || type === "unused_buffer") return this.#plain(name, type, size, fields);
    const offset = this.#base + start;
    const reader = new FieldReader(this.#bytes.subarray(start, start + size), offset, this.#budget.left);
    const { idstr, instanceId, machine } = this.#context;
    const context = { ...scope, idstr, instanceId, field: field.name, type, ...(machine && { machine }) };
    try {
      if (!decodeOpaque(context, reader)) {
        if (whole) this.#unaccounted += size;
        return this.#plain(name, type, size, fields);
      }
      reader.rest();
    } catch (error) {
      const tooMany = error instanceof TooManyFields;
      if (!(error instanceof InspectError || error instanceof EndOfBytes || tooMany)) throw error;
      const read = offset + size - reader.remaining;
      let expected = tooMany ? `at most ${MAX_FIELDS} fields in a stream` : "more bytes";
      let found = tooMany ? "more" : `the end of its ${size} bytes`;
      if (error instanceof InspectError) ({ expected, found } = error.problem);
      this.#warn(problem("opaque.bytes", `${this.#where} ${field.name}`, read, expected, found));
      reader.rest();
    }
    this.#unaccounted += reader.unknown;
    fields.push({ name, offset, size, type, children: reader.fields });
    this.#at += size;
    this.#budget.left -= 1 + reader.count;
  }
}

/** Length by the fields; unlike describedSize it does not trust the size of a struct field. */
function describedBytes(struct: DescribedStruct): number {
  return struct.fields.reduce((sum, { size, arrayLength = 1 }) => sum + size * arrayLength, 0);
}

const LISTS = new Set(["qtailq", "qlist", "gtree"]);

interface Scalar {
  readonly size?: number;
  readonly signed?: true;
}
const SCALARS: ReadonlyMap<string, Scalar> = new Map<string, Scalar>([
  ["bool", { size: 1 }],
  ["timer", { size: 8 }],
  ["ptimer", { size: 8 }],
  ["float64", { size: 8 }],
  ["CPU_Double_U", { size: 8 }],
  ["ptr-marker", { size: 1 }],
  // Less or equal; big-endian like the others.
  ["int32 le", { size: 4, signed: true }],
  // Types for registers and the like that are one big-endian number.
  ...[
    "cpsr",
    "fpscr",
    "powered_off",
    "cpu/altivec/vscr",
    "fpr",
    "vsr",
    "sr",
    "psr",
    "msr",
    "psw",
    "fpcr",
    "sreg",
    "eind",
  ].map((type): [string, Scalar] => [type, {}]),
  ["uint16_from_uint8", {}],
  ["int32_as_uint16", {}],
  ...[1, 2, 4, 8].flatMap((size): [string, Scalar][] => [
    [`uint${size * 8}`, { size }],
    [`uint${size * 8} equal`, { size }],
    [`int${size * 8}`, { size, signed: true }],
    [`int${size * 8} equal`, { size, signed: true }],
  ]),
]);
