import { MirageError } from '../../errors/mirage-error.js';
import type { FileServerFeatures, ServerAttributeChange } from '../file-server.js';
import { needsKnown, type OwnerMap, toWireChange, type WireAttributes } from './attributes.js';
import { notOffered, statusOf } from './errors.js';
import { explainWrite, isSymlink } from './explain.js';
import { Status } from './packet.js';
import { type Requests, shown } from './requests.js';

/** Changes attributes of an open file; the answer is what they are then, asked in the same round trip. */
export async function setByHandle(
  ask: Requests,
  remote: string,
  change: ServerAttributeChange,
  owners: OwnerMap,
): Promise<WireAttributes> {
  const known = needsKnown(change) ? await ask.fstat(remote) : undefined;
  const setting = inOrder(change, owners, known).map((wire) => ask.fsetstat(remote, wire));
  const after = ask.fstat(remote);
  after.catch(() => undefined);
  try {
    await allOf(setting);
  } catch (error) {
    throw await explainWrite(ask, remote, renamedForOwner(error));
  }
  return after;
}

/** The same by path, of a symlink itself where the server can: the plain request follows it. */
export async function setByPath(
  ask: Requests,
  path: string,
  change: ServerAttributeChange,
  owners: OwnerMap,
  { linkAttributes }: FileServerFeatures,
): Promise<WireAttributes> {
  if (linkAttributes && change.size === undefined && !needsKnown(change)) {
    const setting = inOrder(change, owners, undefined).map((wire) => ask.lsetstat(path, wire));
    const looking = ask.lstat(path);
    looking.catch(() => undefined);
    try {
      await allOf(setting);
      return await looking;
    } catch (error) {
      // Some servers know it for symlinks only half: a file is as well served by the plain request.
      const status = statusOf(error);
      if (status !== Status.failure && status !== Status.unsupported) throw error;
      if (isSymlink(await looking)) throw notOffered('attributes of a symlink');
    }
  }
  const known = await ask.lstat(path);
  const onLink = isSymlink(known);
  if (onLink && change.size !== undefined) {
    throw new MirageError(`${shown(path)} is a symlink: it has no size to set`, { errno: 'EINVAL' });
  }
  if (onLink && !linkAttributes) throw notOffered('attributes of a symlink');
  const setting = inOrder(change, owners, known).map((wire) =>
    onLink ? ask.lsetstat(path, wire) : ask.setstat(path, wire),
  );
  const looking = ask.lstat(path);
  looking.catch(() => undefined);
  await allOf(setting);
  return looking;
}

/** The owner first: changing it takes the set-user-id bits away that the mode may name. */
function inOrder(
  change: ServerAttributeChange,
  owners: OwnerMap,
  known: WireAttributes | undefined,
): WireAttributes[] {
  const { uid, gid, ...rest } = toWireChange(change, owners, known);
  if (uid === undefined || gid === undefined) return [rest];
  return Object.keys(rest).length === 0 ? [{ uid, gid }] : [{ uid, gid }, rest];
}

async function allOf(requests: readonly Promise<void>[]): Promise<void> {
  for (const request of requests) request.catch(() => undefined);
  for (const request of requests) await request;
}

const renamedForOwner = (error: unknown): unknown =>
  statusOf(error) === Status.permissionDenied && MirageError.is(error)
    ? new MirageError(error.message, { errno: 'EPERM', cause: error.cause })
    : error;
