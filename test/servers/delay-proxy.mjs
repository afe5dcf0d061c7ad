#!/usr/bin/env node
/**
 * A TCP proxy on loopback that adds latency and faults, for kernels without sch_netem.
 *
 * usage: delay-proxy.mjs LISTEN_PORT TARGET_PORT ONE_WAY_MILLISECONDS [BYTES_PER_SECOND]
 *
 * LISTEN_PORT 0 takes a free one. The first line on stdout is "ready PORT". Every byte is delayed in both directions, its order kept; a new
 * connection costs one more round trip, the handshake that loopback hides. Windows and packet loss are not modelled.
 * Commands on stdin, each answered with a line: "delay MILLISECONDS", "drop" (reset all connections), "dropAfter BYTES" (the connection that sends so
 * many bytes from now on is reset once they have reached the target, and its answer is lost), "stall" and "resume" (nothing passes, nothing breaks),
 * "refuse" and "accept" (new connections), "stats" (JSON). It ends when stdin does.
 */
import { connect, createServer } from 'node:net';
import { createInterface } from 'node:readline';

/** Bytes that may be under way in one direction before the sender has to wait. */
const IN_FLIGHT = 64 * 2 ** 20;

const [listenPort, targetPort, delayText, rateText = '0'] = process.argv.slice(2);
if (targetPort === undefined || delayText === undefined) {
  process.stderr.write(
    'usage: delay-proxy.mjs LISTEN_PORT TARGET_PORT ONE_WAY_MILLISECONDS [BYTES_PER_SECOND]\n',
  );
  process.exit(2);
}

const settings = {
  delay: Number(delayText),
  bytesPerSecond: Number(rateText),
  stalled: false,
  refusing: false,
  /** Bytes towards the target until the connection is cut; undefined: never. */
  cutAfter: undefined,
};
const stats = { connections: 0, bytesUp: 0, bytesDown: 0 };
const live = new Set();

/** Passes on what `from` sends, later. `handshake` is the extra delay of the first bytes, milliseconds. */
class Direction {
  #queue = [];
  #queued = 0;
  #timer;
  #busyUntil = 0;
  #ended = false;
  #opened = performance.now();

  constructor(from, to, handshake, onBytes) {
    this.to = to;
    this.from = from;
    this.handshake = handshake;
    from.on('data', (bytes) => this.#enqueue(bytes, onBytes));
    from.on('end', () => {
      this.#ended = true;
      if (this.#queue.length === 0) to.end();
    });
  }

  #enqueue(bytes, onBytes) {
    onBytes(bytes.length);
    const now = performance.now();
    let due = now + settings.delay + Math.max(0, this.handshake - (now - this.#opened));
    if (settings.bytesPerSecond > 0) {
      this.#busyUntil = Math.max(this.#busyUntil, now) + (bytes.length / settings.bytesPerSecond) * 1000;
      due = Math.max(due, this.#busyUntil + settings.delay);
    }
    due = Math.max(due, this.#queue.at(-1)?.due ?? 0);
    this.#queue.push({ due, bytes });
    this.#queued += bytes.length;
    if (this.#queued > IN_FLIGHT) this.from.pause();
    this.#pass();
  }

  #pass() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const now = performance.now();
    // Timers are a fraction of a millisecond early or late; waiting for the fraction would cost a whole one.
    while (this.#queue.length > 0 && this.#queue[0].due <= now + 0.3 && !settings.stalled) {
      const { bytes } = this.#queue.shift();
      this.#queued -= bytes.length;
      if (!this.to.destroyed) this.to.write(bytes);
    }
    if (this.#queued <= IN_FLIGHT / 2 && this.from.isPaused()) this.from.resume();
    if (this.#queue.length > 0) {
      const wait = settings.stalled ? 20 : this.#queue[0].due - now;
      this.#timer = setTimeout(() => this.#pass(), Math.max(0, wait));
    } else if (this.#ended) {
      this.to.end();
    }
  }
}

const server = createServer({ noDelay: true, allowHalfOpen: true }, (client) => {
  if (settings.refusing) return client.resetAndDestroy();
  stats.connections++;
  const target = connect({ port: Number(targetPort), host: '127.0.0.1', noDelay: true, allowHalfOpen: true });
  live.add(client);
  const end = () => {
    live.delete(client);
    client.destroy();
    target.destroy();
  };
  client.on('error', end);
  target.on('error', end);
  client.on('close', () => {
    live.delete(client);
    target.destroySoon();
  });
  new Direction(client, target, 2 * settings.delay, (count) => {
    stats.bytesUp += count;
    if (settings.cutAfter === undefined) return;
    settings.cutAfter -= count;
    if (settings.cutAfter > 0) return;
    settings.cutAfter = undefined;
    // The target gets everything and acts; only its answer is lost.
    target.removeAllListeners('data');
    target.once('data', () => client.resetAndDestroy());
  });
  new Direction(target, client, 0, (count) => {
    stats.bytesDown += count;
  });
});

const commands = {
  delay: (value) => {
    settings.delay = Number(value);
  },
  drop: () => {
    for (const socket of live) socket.resetAndDestroy();
  },
  dropAfter: (value) => {
    settings.cutAfter = Number(value);
  },
  stall: () => {
    settings.stalled = true;
  },
  resume: () => {
    settings.stalled = false;
  },
  refuse: () => {
    settings.refusing = true;
  },
  accept: () => {
    settings.refusing = false;
  },
  stats: () => JSON.stringify({ ...stats, live: live.size }),
};

server.listen(Number(listenPort), '127.0.0.1', 1024, () => {
  process.stdout.write(`ready ${server.address().port}\n`);
});
createInterface({ input: process.stdin })
  .on('line', (line) => {
    const [name, value] = line.split(' ');
    const command = commands[name];
    process.stdout.write(
      `${command === undefined ? `unknown command ${name}` : (command(value) ?? 'done')}\n`,
    );
  })
  .on('close', () => process.exit(0));
