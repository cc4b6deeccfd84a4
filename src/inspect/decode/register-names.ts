// Names of the registers in the arrays of QEMU's and Wherry's cpu sections, recognised by neighbouring
// fields: RISC-V by its calling convention (riscv-elf-psabi-doc), x86-64 in the order of its encoding (Intel
// SDM volume 2, REX), Arm, s390x and POWER by number, POWER's special registers by the Power ISA (book III,
// SPRs), Arm's system registers by the accompanying list of encodings.
import { F_NAMES, X_NAMES } from "../../riscv/abi-names.ts";
import { sysregName } from "./arm-sysregs.ts";
import type { Field } from "../model/stream-report.ts";

const X86 = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split(" ");
const POWER_SPECIAL: Readonly<Record<number, string>> = {
  1: "XER",
  8: "LR",
  9: "CTR",
  18: "DSISR",
  19: "DAR",
  22: "DEC",
  26: "SRR0",
  27: "SRR1",
  28: "CFAR",
  272: "SPRG0",
  273: "SPRG1",
  274: "SPRG2",
  275: "SPRG3",
  287: "PVR",
  304: "HSPRG0",
  305: "HSPRG1",
  314: "HSRR0",
  315: "HSRR1",
  318: "LPCR",
};

type Name = (index: number) => string | undefined;

const listed =
  (names: readonly string[]): Name =>
  (index) =>
    names[index];
const numbered =
  (prefix: string): Name =>
  (index) =>
    `${prefix}${index}`;

/** Names of the elements of `array`; undefined if it is not a known array of registers. */
export function registerName(siblings: readonly Field[], array: string): Name | undefined {
  const field = (name: string) => siblings.find((sibling) => sibling.name === name);
  const beside = (name: string) => field(name) !== undefined;
  switch (array) {
    case "env.gpr":
      if (beside("env.fpr") && beside("env.pc")) return listed(X_NAMES);
      return beside("env.spr") ? numbered("r") : undefined;
    case "env.fpr":
      return beside("env.gpr") && beside("env.pc") ? listed(F_NAMES) : undefined;
    case "x":
      return beside("f") && beside("pc") ? listed(X_NAMES) : undefined;
    case "f":
      return beside("x") && beside("pc") ? listed(F_NAMES) : undefined;
    case "env.spr":
      return (index) => POWER_SPECIAL[index] ?? `SPR ${index}`;
    case "env.regs":
      if (beside("env.eip")) return listed(X86);
      return beside("env.xregs") || beside("env.psw.mask") ? numbered("r") : undefined;
    case "env.xregs":
      return numbered("x");
    case "env.cregs":
      return numbered("c");
    case "env.aregs":
      return numbered("a");
    case "cpreg_vmstate_values": {
      const indexes = field("cpreg_vmstate_indexes")?.children;
      return (index) => {
        const value = indexes?.[index]?.value;
        return typeof value === "bigint" ? sysregName(value) : undefined;
      };
    }
    default:
      return undefined;
  }
}
