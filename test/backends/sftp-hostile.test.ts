import { afterEach, expect, test } from '@jest/globals';
import { sameOwners } from '../../src/backends/sftp/attributes.js';
import type { Channel } from '../../src/backends/sftp/channel.js';
import { Connections } from '../../src/backends/sftp/connections.js';
import { SftpFileServer } from '../../src/backends/sftp/file-server.js';
import { PacketType, RequestPacket, Status } from '../../src/backends/sftp/packet.js';
import type { MirageError } from '../../src/errors/mirage-error.js';
import { quietLog } from '../servers/quiet.js';
import { calm, refusal } from './sftp-harness.js';

/** A server of our own making: no honest one says such things. `answer` gets the type of each request and its id. */
async function served(answer: (type: PacketType, id: number) => Buffer): Promise<SftpFileServer> {
  const connect = async (): Promise<Channel> => {
    let onBytes: (chunk: Buffer) => void = () => undefined;
    return {
      send(packet) {
        const type = packet[4]!;
        const id = Buffer.from(packet).readUInt32BE(5);
        const version = Buffer.from([0, 0, 0, 5, PacketType.version, 0, 0, 0, 3]);
        setImmediate(() => onBytes(type === PacketType.init ? version : answer(type, id)));
      },
      listen(listener) {
        onBytes = listener;
      },
      ended: new Promise<MirageError>(() => undefined),
      destroy: () => undefined,
    };
  };
  connections = new Connections({ connect, limit: 1, timeout: 5_000, log: quietLog });
  const session = await connections.first(new AbortController().signal);
  return new SftpFileServer(connections, '/root', sameOwners, session.traits);
}

let connections: Connections | undefined;
afterEach(() => connections?.close());

const status = (id: number, code: Status): Buffer =>
  Buffer.from(new RequestPacket(PacketType.status).u32(code).text('').text('').encode(id));

test('names that lead out of their directory are no names', async () => {
  const names = ['.', '..', '', 'a/b', '/etc/passwd', '../../x', 'nul\0', 'good', '\xff'];
  let pages = 0;
  const files = await served((type, id) => {
    if (type === PacketType.opendir) {
      return Buffer.from(new RequestPacket(PacketType.handle).text('h').encode(id));
    }
    if (type !== PacketType.readdir || pages++ > 0) return status(id, Status.endOfFile);
    const page = new RequestPacket(PacketType.name).u32(names.length);
    for (const name of names) page.text(name).text('').u32(0);
    return Buffer.from(page.encode(id));
  });
  const found: string[] = [];
  await files.list('', (entries) => void found.push(...entries.map(({ name }) => name)), calm());
  expect(found).toEqual(['good', '\xff']);
});

test.each<[string, (id: number) => Buffer]>([
  [
    'an answer of another kind',
    (id) => Buffer.from(new RequestPacket(PacketType.handle).text('h').encode(id)),
  ],
  [
    'bytes of a file',
    (id) => Buffer.from(new RequestPacket(PacketType.data).bytes(Buffer.alloc(9)).encode(id)),
  ],
  [
    'an answer that is cut short',
    (id) => Buffer.from(new RequestPacket(PacketType.attributes).u32(15).encode(id)),
  ],
  ['a status of no meaning', (id) => status(id, 99 as Status)],
  ['no SFTP at all', () => Buffer.from('HTTP/1.1 400 Bad Request\r\n')],
])('%s in place of attributes is EIO', async (_name, answer) => {
  const files = await served((_type, id) => answer(id));
  expect((await refusal(files.lstat('file', calm()))).errno).toBe('EIO');
});

test('an answer that nobody asked for is passed over', async () => {
  const attributes = (id: number) =>
    Buffer.from(new RequestPacket(PacketType.attributes).u32(1).u64(7).encode(id));
  const files = await served((_type, id) => Buffer.concat([attributes(id + 1000), attributes(id)]));
  expect(await files.lstat('file', calm())).toMatchObject({ size: 7 });
});
