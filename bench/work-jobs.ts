// The jobs of `npm run bench:work`: what people do on a Debian, none of them a loop of our own making.
// Each is a line of bash whose output is the same in each run; what varies (times, keys) is not printed. A
// job leaves nothing behind, so that its second run does the same.

export interface Job {
  readonly name: string;
  readonly command: string;
}

/** Debian's packages in the image, in addition to those of each. */
export const PACKAGES: readonly string[] = [
  ...["python3", "libpython3.13-testsuite", "perl", "gcc", "libc6-dev", "git", "make", "sqlite3", "nodejs"],
  ...["zstd", "xz-utils", "bzip2", "openssl", "openssh-client", "lua5.4", "ruby", "curl", "fio", "file"],
  ...["systemd", "nginx-light"],
];

/** Of the headers that SETUP finds as a tar archive, /c.tar. */
export const HEADERS = "libstb-dev";

/** What is made once in the image, by root's bash in /work. Part of the image's key. */
export const SETUP: readonly string[] = [
  "for s in nginx ssh cron; do [ ! -e /etc/init.d/$s ] || update-rc.d $s disable; done",
  "git config --global user.name bench; git config --global user.email bench@localhost",
  "git config --global gc.auto 0; git config --global advice.detachedHead false",
  // A history of Python's library, a package in a commit, then a change of each.
  "export GIT_AUTHOR_DATE=2025-01-01T00:00:00Z GIT_COMMITTER_DATE=2025-01-01T00:00:00Z",
  "git init -q -b main repo; cd repo; P=/usr/lib/python3.13",
  "for d in asyncio collections concurrent ctypes curses dbm email encodings html http importlib json logging; do cp -r $P/$d .; git add .; git commit -q -m $d; done",
  "for d in multiprocessing pathlib pydoc_data re sqlite3 tomllib unittest urllib wsgiref xml xmlrpc zipfile; do cp -r $P/$d .; git add .; git commit -q -m $d; done",
  "for d in */; do sed -i 's/self/this/g' $(find $d -name '*.py'); git commit -q -a -m change-$d; done; cd ..",
  // Sean Barrett's libraries: a header with its implementation is a translation unit of thousands of lines.
  "mkdir c; tar -C c -xf /c.tar; for l in image image_write image_resize2 truetype rect_pack sprintf dxt; do [ ! -e c/stb_$l.h ] || printf '#include <string.h>\\n#define STB_%s_IMPLEMENTATION\\n#include \"stb_%s.h\"\\n' $(echo $l | sed 's/resize2/resize/' | tr a-z A-Z) $l > c/$l.c; done",
  "printf 'O = $(patsubst %%.c,%%.o,$(wildcard *.c))\\nall: $O\\n%%.o: %%.c\\n\\t$(CC) $(CFLAGS) -O1 -w -c -o $@ $<\\n' > c/Makefile",
  "printf '#include <stdio.h>\\nint main(void) { puts(\"hello\"); return 0; }\\n' > hello.c",
  "cat /usr/lib/python3.13/*.py > text; head -c 4M text > text4",
  "mkdir www; head -c 20000 text > www/file; printf 'worker_processes 1; pid /run/bench.pid; error_log /dev/null; events {}\\nhttp { access_log off; server { listen 127.0.0.1:8088; root /work/www; } }\\n' > nginx.conf",
  "openssl enc -aes-256-ctr -pass pass:x -nosalt -pbkdf2 -in /dev/zero 2>/dev/null | head -c 256M > random; cp random scratch; sync",
];

/** On a file of its own for writes: what they leave is not the same each time. */
const fio = (rw: string, bs: string, depth: number, count: number): string =>
  `fio --name=a --filename=/work/${rw.includes("write") ? "scratch" : "random"} --direct=1 --ioengine=libaio --rw=${rw} --bs=${bs} --iodepth=${depth} --number_ios=${count} --size=256M --io_size=100G --randseed=1 --minimal >/dev/null`;

const job = (name: string, command: string): Job => ({ name, command });

export const JOBS: readonly Job[] = [
  // Shells.
  job("forks", "for i in {1..100}; do /bin/true; done"),
  job("pipes", "for i in {1..40}; do echo $i | tr 0-9 a-j | rev; done"),
  job(
    "bash",
    "for ((i = 0; i < 20000; i++)); do a[i % 100]=$((i * i % 7)); s=${a[i % 50]}$i; done; echo ${a[*]}",
  ),
  job(
    "configure",
    "for i in {1..40}; do [ -n \"$(command -v gcc)\" ] && x=$(expr $i + 1) && sh -c 'test -r /etc/passwd' && echo $x; done",
  ),
  // Trees of files.
  job("ls", "ls -lR /usr/lib | wc"),
  job("find", "find /usr -xdev -type f -name '*.py' -size +2k | sort"),
  job("grep", "grep -rl size_t /usr/include | sort"),
  job("du", "du -a /usr/share | wc -l"),
  job("sha256", "find /usr/bin -type f -size -200k | sort | head -150 | xargs sha256sum"),
  job("diff", "diff -r repo/email /usr/lib/python3.13/email | wc"),
  // Text.
  job("sort", "sort text | uniq -c | sort -rn | head -50"),
  job(
    "awk",
    "awk '{ for (i = 1; i <= NF; i++) n[$i]++ } END { for (w in n) if (n[w] > 50) print n[w], w }' text4 | sort",
  ),
  job("sed", "sed -E 's/([a-z_]+)\\(([^)]*)\\)/\\2 <- \\1/g; /^ *#/d' text4"),
  // Languages.
  job("python-start", "python3 -c pass"),
  job(
    "python-json",
    'python3 -c "import json; d = {str(i): list(range(i % 40)) for i in range(4000)}; print(json.loads(json.dumps(d)) == d)"',
  ),
  job(
    "python-re",
    "python3 -c \"import re; print(len(re.findall(r'(\\w+)\\((self|this)[^)]*\\):', open('/work/text').read())))\"",
  ),
  job(
    "python-unittest",
    "python3 -m unittest test.test_textwrap test.test_shlex test.test_heapq 2>&1 | sed 's/ in .*//'",
  ),
  job(
    "python-compile",
    "cp -r /usr/lib/python3.13/email /dev/shm/e; python3 -m compileall -q -f /dev/shm/e; rm -r /dev/shm/e",
  ),
  job("perl-start", "perl -MPOSIX -e 'print 1'"),
  job(
    "perl-words",
    "perl -ne '$n{lc $_}++ for /\\w+/g; END { print \"$_ $n{$_}\\n\" for sort { $n{$b} <=> $n{$a} || $a cmp $b } keys %n }' text4 | head -100",
  ),
  job(
    "lua",
    "lua5.4 -e 'local t = {} for i = 1, 100000 do t[#t + 1] = tostring(i * 7 % 1009) end table.sort(t) print(#table.concat(t, \",\"))'",
  ),
  job(
    "ruby",
    "ruby -Ku -e 'puts File.read(\"/work/text4\").scan(/[a-z_]+/).tally.sort_by { |k, v| [-v, k] }.first(20).inspect'",
  ),
  job("node-start", "node -e 'console.log(1)'"),
  job(
    "node",
    'node -e \'const m = new Map(); for (const w of fs.readFileSync("/work/text4", "utf8").split(/\\W+/)) m.set(w, (m.get(w) ?? 0) + 1); console.log(JSON.stringify([...m]).length)\'',
  ),
  // Building, version control, data.
  job("gcc", "gcc -O2 -o /dev/shm/hello hello.c && /dev/shm/hello; rm /dev/shm/hello"),
  job(
    "make",
    "cp -r c /dev/shm/c; make -s -j$(nproc) -C /dev/shm/c >/dev/null; ls /dev/shm/c; rm -r /dev/shm/c",
  ),
  job("git-clone", "git clone -q --no-local repo /dev/shm/repo; ls -R /dev/shm/repo; rm -rf /dev/shm/repo"),
  job("git-log", "git -C repo log --stat | cat"),
  job("git-status", "touch repo/json/*.py; git -C repo status"),
  job(
    "git-gc",
    "cp -r repo /dev/shm/repo; git -C /dev/shm/repo gc -q; git -C /dev/shm/repo fsck 2>&1; rm -rf /dev/shm/repo",
  ),
  job(
    "sqlite",
    'sqlite3 :memory: "create table t(a integer primary key, b text); with recursive c(x) as (select 1 union all select x + 1 from c where x < 20000) insert into t select x, hex(x * 7919 % 10007) from c; create index i on t(b); select count(*), sum(length(b)) from t x join t y using (b);"',
  ),
  job(
    "sqlite-commits",
    "rm -f db; sqlite3 db 'create table t(a)'; for i in {1..40}; do echo \"insert into t values($i);\"; done | sqlite3 db; sqlite3 db 'select sum(a) from t'; rm db",
  ),
  job(
    "tar-gzip",
    "tar -C /usr/lib/python3.13 --sort=name --mtime=@0 -c email json http asyncio | gzip -n | wc -c",
  ),
  job("zstd", "zstd -q -c text | zstd -q -d | cksum"),
  job("xz", "head -c 1M text | xz -c | xz -d | cksum"),
  job("bzip2", "head -c 1M text | bzip2 -c | bzip2 -d | cksum"),
  // Administration.
  job(
    "dpkg-query",
    "dpkg-query -W -f '${Package} ${Installed-Size}\\n'; dpkg-query -S /usr/bin/ls /usr/bin/git",
  ),
  job("apt-cache", "apt-cache dumpavail | wc -l; apt-cache depends git"),
  job(
    "openssl",
    "openssl enc -aes-256-cbc -pbkdf2 -iter 20000 -S 0102030405060708 -pass pass:x -in text4 | openssl dgst -sha256",
  ),
  job(
    "ssh-keygen",
    "for t in ed25519 ecdsa; do ssh-keygen -q -t $t -N '' -f /dev/shm/key; rm /dev/shm/key*; done",
  ),
  job("systemd-analyze", "systemd-analyze syscall-filter | cat"),
  job("ps", "for i in {1..10}; do ps -ef | wc -w >/dev/null; done"),
  job(
    "web",
    "nginx -c /work/nginx.conf; for i in {1..5}; do curl -s http://127.0.0.1:8088/file{,,,,} | cksum; done; nginx -c /work/nginx.conf -s stop",
  ),
  // The disk.
  job("dd-read-1m", "dd if=/dev/vda bs=1M count=512 iflag=direct of=/dev/null"),
  job("dd-read-4k", "dd if=/work/random bs=4k count=4000 iflag=direct | cksum"),
  job("dd-write-1m", "dd if=/dev/zero of=out bs=1M count=128 oflag=direct conv=fsync; rm out"),
  job("dd-write-4k", "dd if=/dev/zero of=out bs=4k count=4000 oflag=direct conv=fsync; rm out"),
  job("cached-write", "head -c 64M random > out; sync out; cksum out; rm out"),
  job("uncached-read", "sync; echo 1 > /proc/sys/vm/drop_caches; head -c 128M random | cksum"),
  job("fio-read-4k-16", fio("randread", "4k", 16, 10_000)),
  job("fio-write-4k-16", fio("randwrite", "4k", 16, 10_000)),
  job("fio-read-1m-16", fio("read", "1m", 16, 1500)),
  job("fsyncs", "dd if=/dev/zero of=out bs=4k count=200 oflag=dsync; rm out"),
  job(
    "small-files",
    "cp -r /usr/lib/python3.13/test small; sync; find small -type f | wc -l; rm -r small; sync",
  ),
];
