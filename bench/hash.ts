// Throughput of the snapshot's integrity hash and of OpenSSL's SHA-256: CPU time for 64 MiB of random bytes,
// best of five.
//   node bench/hash.ts
import { createHash, randomBytes } from "node:crypto";
import { Xxh32 } from "../src/base/xxh32.ts";

const bytes = randomBytes(64 << 20);

function measure(name: string, hash: () => void): void {
  hash();
  const rates = Array.from({ length: 5 }, () => {
    const before = process.cpuUsage();
    hash();
    const { user, system } = process.cpuUsage(before);
    return bytes.length / (user + system);
  });
  console.log(
    `${name.padEnd(28)} ${Math.max(...rates)
      .toFixed(0)
      .padStart(6)} MB/s`,
  );
}

measure("XXH32, src/base/xxh32.ts", () => void new Xxh32().update(bytes).digest());
measure("SHA-256, Node's OpenSSL", () => void createHash("sha256").update(bytes).digest());
