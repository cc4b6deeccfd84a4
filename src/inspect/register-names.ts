// Names of the registers in the arrays of QEMU's cpu sections, told from the names of the fields beside them: RISC-V by
// its calling convention (riscv-elf-psabi-doc), x86-64 in the order of its encoding (Intel SDM volume 2, REX).
import type { Field } from "./model.ts";

const RISCV =
  "zero ra sp gp tp t0 t1 t2 s0 s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6";
const RISCV_FLOAT =
  "ft0 ft1 ft2 ft3 ft4 ft5 ft6 ft7 fs0 fs1 fa0 fa1 fa2 fa3 fa4 fa5 fa6 fa7 fs2 fs3 fs4 fs5 fs6 fs7 fs8 fs9 fs10 fs11 ft8 ft9 ft10 ft11";
const X86 = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15";

/** How the elements of `array` are called; undefined if it is no array of registers that is known. */
export function registerName(
  siblings: readonly Field[],
  array: string,
): ((index: number) => string | undefined) | undefined {
  const beside = (name: string) => siblings.some((field) => field.name === name);
  let names: string | undefined;
  if (array === "env.gpr" && beside("env.fpr") && beside("env.pc")) names = RISCV;
  else if (array === "env.fpr" && beside("env.gpr") && beside("env.pc")) names = RISCV_FLOAT;
  else if (array === "env.regs" && beside("env.eip")) names = X86;
  const list = names?.split(" ");
  return list === undefined ? undefined : (index) => list[index];
}
