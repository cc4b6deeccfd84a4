// KVM's ids in Linux 7.2, and their values on a host with `-cpu rva23s64`, as literals.
import { expect, it } from "vitest";
import { EXTENSION_NAMES, EXTENSIONS, MISA, misaLetters, misaWords } from "./extensions.ts";

/** KVM_RISCV_ISA_EXT_*, from 0 on. */
const KVM = [
  ..."a c d f h i m svpbmt sstc svinval zihintpause zicbom zicboz zbb ssaia v svnapot zba zbs zicntr".split(
    " ",
  ),
  ..."zicsr zifencei zihpm smstateen zicond zbc zbkb zbkc zbkx zknd zkne zknh zkr zksed zksh zkt".split(" "),
  ..."zvbb zvbc zvkb zvkg zvkned zvknha zvknhb zvksed zvksh zvkt zfh zfhmin zihintntl zvfh zvfhmin".split(
    " ",
  ),
  ..."zfa ztso zacas sscofpmf zimop zca zcb zcd zcf zcmop zawrs smnpm ssnpm svade svadu svvptc".split(" "),
];

it.each(Object.entries(EXTENSIONS))("%s has KVM's id", (name, { isaExt }) => {
  expect(KVM[isaExt]).toBe(name);
});

it("misa has the single letters, and S and U", () => {
  expect(MISA).toBe(0x80000000_0014112dn);
  expect(misaWords(misaLetters("SUMACIDF"))).toBe("ACDFIMSU");
});

it("ISA strings have single letters first", () => {
  expect(EXTENSION_NAMES.slice(0, 7).join("")).toBe("imafdczicbom");
});
