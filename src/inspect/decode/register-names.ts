// Names of the registers in the arrays of QEMU's and Wherry's cpu sections, told from the names of the fields beside them: RISC-V by
// its calling convention (riscv-elf-psabi-doc), x86-64 in the order of its encoding (Intel SDM volume 2, REX), Arm,
// s390x and POWER by number, special ones of POWER by the Power ISA (book III, SPRs), Arm's system registers by the list of
// their encodings that comes with them.
import { sysregName } from "./arm-sysregs.ts";
import type { Field } from "../model/stream-report.ts";

const RISCV =
  "zero ra sp gp tp t0 t1 t2 s0 s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6";
const RISCV_FLOAT =
  "ft0 ft1 ft2 ft3 ft4 ft5 ft6 ft7 fs0 fs1 fa0 fa1 fa2 fa3 fa4 fa5 fa6 fa7 fs2 fs3 fs4 fs5 fs6 fs7 fs8 fs9 fs10 fs11 ft8 ft9 ft10 ft11";
const X86 = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15";
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

const listed = (names: string): Name => {
  const list = names.split(" ");
  return (index) => list[index];
};
const numbered =
  (prefix: string): Name =>
  (index) =>
    `${prefix}${index}`;

/** How the elements of `array` are called; undefined if it is no array of registers that is known. */
export function registerName(siblings: readonly Field[], array: string): Name | undefined {
  const field = (name: string) => siblings.find((sibling) => sibling.name === name);
  const beside = (name: string) => field(name) !== undefined;
  switch (array) {
    case "env.gpr":
      if (beside("env.fpr") && beside("env.pc")) return listed(RISCV);
      return beside("env.spr") ? numbered("r") : undefined;
    case "env.fpr":
      return beside("env.gpr") && beside("env.pc") ? listed(RISCV_FLOAT) : undefined;
    case "x":
      return beside("f") && beside("pc") ? listed(RISCV) : undefined;
    case "f":
      return beside("x") && beside("pc") ? listed(RISCV_FLOAT) : undefined;
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
