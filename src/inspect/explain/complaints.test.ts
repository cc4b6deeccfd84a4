// Logs of all kinds: a message is found in each, and one failure has one answer. complaint-examples.test.ts
// has the messages.
import { describe, expect, test } from "vitest";
import { explainComplaint } from "./complaints.ts";

describe("the same answer", () => {
  const message =
    "Unknown section or instance '0000:00:05.0/virtio-blk' 0. Make sure that your current VM setup matches your saved VM setup, including any hotplugged devices";
  const answer = explainComplaint(message);
  const wrapped = message.replace(/(.{60})/g, "$1\n");
  test.each([
    ["QEMU's name", `qemu-system-x86_64: load of migration failed: Invalid argument: ${message}`],
    ["a time", `2026-01-10T10:00:00.123456Z qemu-kvm: ${message}`],
    ["libvirt", `error: internal error: QEMU unexpectedly closed the monitor (vm='a'): qemu-kvm: ${message}`],
    ["syslog", `Jan 30 10:00:05 host1 libvirtd[123]: ${message}`],
    [
      "virt-launcher",
      JSON.stringify({ component: "virt-launcher", level: "error", msg: `x: ${message}`, pos: "a.go:1" }),
    ],
    [
      "a container's JSON in JSON",
      JSON.stringify({ log: `${JSON.stringify({ msg: message })}\n`, stream: "stderr" }),
    ],
    ["a line of JSON that is cut off", `{"component":"virt-launcher","msg":"q: ${message}","pos":"virt-lau`],
    ["QMP", JSON.stringify({ error: { class: "GenericError", desc: message } })],
    ["quotation marks", message.replace("'", "‘").replace("'", "’")],
    ["double quotes", message.replaceAll("'", '"')],
    ["escaped quotes", message.replaceAll("'", '\\"')],
    ["HTML", message.replaceAll("'", "&#39;")],
    ["no quotes", message.replaceAll("'", "")],
    ["a mail", message.replace(/^/gm, "> > ")],
    ["line wraps at spaces", message.replace(/(.{50}\S*) /g, "$1\n")],
    ["line wraps in words", wrapped],
    ["colours", `\u001b[31mError:\u001b[0m ${message}`],
    ["CRLF", `${message}\r\n`],
    ["escaped line ends", `output: b'kvm: starting\\n${message}\\nkvm: end'`],
    ["capitals", message.toUpperCase().replace(/'.*'/, "'0000:00:05.0/virtio-blk'")],
  ])("with %s", (_, text) => {
    expect(explainComplaint(text).map(({ times: _times, ...rest }) => rest)).toEqual(answer);
  });
});

describe("several messages", () => {
  const failure = (time: string, device: string, reason: string) =>
    [
      `${time}.100Z qemu-kvm: ${reason}`,
      `${time}.101Z qemu-kvm: Failed to load virtio-net:virtio`,
      `${time}.102Z qemu-kvm: error while loading state for instance 0x0 of device '${device}'`,
      `${time}.103Z qemu-kvm: load of migration failed: Operation not permitted`,
    ].join("\n");
  const FEATURES = "Features 0x130afffa7 unsupported. Allowed features: 0x130afffa0";
  const CONFIG =
    "get_pci_config_device: Bad config data: i=0x9a read: 3 device: 7 cmask: ff wmask: 0 w1cmask:0";

  test("of one failure are one answer, with the device of the failure", () => {
    const answers = explainComplaint(failure("2026-01-10T10:00:00", "0000:00:03.0/virtio-net", FEATURES));
    expect(answers).toHaveLength(1);
    expect(answers[0]).toMatchObject({
      code: "complaint.features",
      where: "section 0000:00:03.0/virtio-net",
      times: ["2026-01-10T10:00:00.100Z"],
    });
    expect(answers[0]?.found).toContain("VIRTIO_NET_F_CSUM VIRTIO_NET_F_GUEST_CSUM");
  });
  test("of several failures are told apart, each with its own device and time", () => {
    const log = [
      failure("2026-01-10T10:00:00", "0000:00:03.0/virtio-net", FEATURES),
      failure("2026-01-10T11:00:00", "0000:00:05.0/virtio-blk", CONFIG),
      "2026-01-10T12:00:00.000Z qemu-kvm: Features 0x30006e54 unsupported. Allowed features: 0x10006e54",
      "2026-01-10T12:00:00.001Z qemu-kvm: error while loading state for instance 0x1 of device '0000:00:07.0/virtio-blk'",
    ];
    const answers = explainComplaint(log.join("\n"));
    expect(answers.map(({ where }) => where)).toEqual([
      "section 0000:00:03.0/virtio-net",
      "section 0000:00:05.0/virtio-blk, PCI config space, a capability at 0x9a",
      "section 0000:00:07.0/virtio-blk/1",
    ]);
    expect(answers.map(({ times }) => times?.[0]?.slice(11, 16))).toEqual(["10:00", "11:00", "12:00"]);
  });
  test("without times too", () => {
    const log = `${failure("", "a/virtio-net", FEATURES)}\n${failure("", "b/virtio-net", CONFIG)}`.replace(
      /^\.\d+Z /gm,
      "",
    );
    expect(explainComplaint(log).map(({ where }) => where)).toEqual([
      "section a/virtio-net",
      "section b/virtio-net, PCI config space, a capability at 0x9a",
    ]);
  });
  test("a failure that comes again is one answer with all its times", () => {
    const again = ["10", "11", "12"].map((hour) =>
      failure(`2026-01-10T${hour}:00:00`, "0000:00:03.0/virtio-net", FEATURES),
    );
    const answers = explainComplaint(again.join("\n"));
    expect(answers).toHaveLength(1);
    expect(answers[0]?.times).toHaveLength(3);
  });
  test("what a wrapper says afterwards adds nothing", () => {
    const log = `${failure("2026-01-10T10:00:00", "0000:00:03.0/virtio-net", FEATURES)}
2026-01-10 10:00:00.300+0000: shutting down, reason=failed
2026-01-10 10:00:15.000+0000: 77: error : qemuProcessReportLogError: internal error: QEMU unexpectedly closed the monitor (vm='web')`;
    expect(explainComplaint(log).map(({ code }) => code)).toEqual(["complaint.features"]);
  });
  test("warnings before the reason add nothing", () => {
    const log = `qemu-system-ppc64: warning: TCG doesn't support requested feature, cap-cfpc=workaround
qemu-system-ppc64: load of migration failed: Invalid argument: Unknown section or instance 'xive-source' 0. Make sure`;
    expect(explainComplaint(log).map(({ code }) => code)).toEqual(["complaint.unknown-section"]);
  });
  test("an option in JSON within a message hides nothing", () => {
    const log = `2026-01-10T10:00:00.000Z qemu-kvm: -blockdev {"node-name":"a","driver":"qcow2"}: Failed to get "write" lock
Is another process using the image [/images/a b.qcow2]?`;
    expect(explainComplaint(log).map(({ where }) => where)).toEqual(["disk image /images/a b.qcow2"]);
  });
  test("the error number after the device is of the same failure", () => {
    const log = "error while loading state section id 3(ram)\nload of migration failed: Input/output error";
    expect(explainComplaint(log)).toMatchObject([{ code: "complaint.cut", where: "section ram" }]);
  });
  test("each blocker has an answer", () => {
    const reasons = {
      "blocked-reasons": [
        "State blocked by non-migratable CPU device (invtsc flag)",
        "virgl is not yet migratable",
      ],
    };
    const codes = ["complaint.blocked.invtsc", "complaint.blocked.gpu"];
    expect(explainComplaint(JSON.stringify({ return: reasons })).map(({ code }) => code)).toEqual(codes);
    expect(explainComplaint(JSON.stringify({ return: reasons }, null, 2)).map(({ code }) => code)).toEqual(
      codes,
    );
  });
  test("of one kind are one answer with all that they name", () => {
    const lines = ["1013c030", "1013c031"].map(
      (index) =>
        `handle_cpreg_only_in_incoming_stream: system register 0x${index} in the incoming stream but unknown on the destination: fail migration`,
    );
    const [answer, ...more] = explainComplaint(lines.join("\n"));
    expect(more).toEqual([]);
    expect(answer?.found).toMatch(/0x1013c030.*0x1013c031/);
  });
  test("a long log has its failures at their places", () => {
    const noise = "2026-01-10T09:00:00.000Z qemu-kvm: terminating on signal 15 from pid 1 (systemd)\n".repeat(
      20_000,
    );
    const log = `${noise}${failure("2026-01-10T10:00:00", "0000:00:03.0/virtio-net", FEATURES)}\n${noise}`;
    expect(explainComplaint(log).map(({ where }) => where)).toEqual(["section 0000:00:03.0/virtio-net"]);
  });
});

describe("other text", () => {
  test.each([
    "",
    "\n",
    "what?",
    "qemu: terminating on signal 15\n",
    "the migration was fine",
    "{}",
    '{"a":"b"}',
  ])("has no answer: %j", (text) => {
    expect(explainComplaint(text)).toEqual([]);
  });
  test("numbers and repetitions of any length do no harm", () => {
    const line = `Features 0x${"f".repeat(10_000)} unsupported. Allowed features: 0x0`;
    expect(explainComplaint(line)).toEqual([]);
    expect(explainComplaint("Length mismatch: ".repeat(20_000))).toEqual([]);
    expect(explainComplaint("error while loading state for instance 0x".repeat(20_000))).toEqual([]);
    expect(explainComplaint("{".repeat(100_000))).toEqual([]);
    expect(explainComplaint(`${'{"msg":"'.repeat(100)}Missing section footer for x`)).not.toEqual([]);
  });
});
