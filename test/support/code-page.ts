// A page of guest code from assembly text, for tests of the translator.
import { assemble, flatBinary } from "../../src/asm/assembler.ts";
import { PAGE_SIZE } from "../../src/hypervisor/translator/region.ts";

/** Host address of the page: not 0, so that an offset is not mistaken for an address. */
export const CODE_PAGE = 0x4000;

export interface CodePage {
  readonly view: DataView<SharedArrayBuffer>;
  /** Byte offset of a label in the page. */
  at(label: string): number;
  /** The label at an offset, or the offset in hexadecimal. */
  labelAt(offset: number): string;
}

/** The text assembled at the page's start; symbols are offsets in the page. */
export function codePage(text: string): CodePage {
  const assembled = assemble([{ name: "page", text }], { base: 0n });
  const bytes = flatBinary(assembled);
  if (bytes.length > PAGE_SIZE) throw new RangeError(`${bytes.length} bytes of code are more than a page`);
  const buffer = new SharedArrayBuffer(CODE_PAGE + PAGE_SIZE);
  new Uint8Array(buffer).set(bytes, CODE_PAGE);
  const labels = new Map([...assembled.symbols].map(([name, value]) => [Number(value), name]));
  return {
    view: new DataView(buffer),
    at: (label) => {
      const value = assembled.symbols.get(label);
      if (value === undefined) throw new RangeError(`the code has no label ${label}`);
      return Number(value);
    },
    labelAt: (offset) => labels.get(offset) ?? offset.toString(16),
  };
}
