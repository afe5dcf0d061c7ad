import type { FileServerFeatures } from '../file-server.js';
import type { ServerTraits } from './session.js';

/** What the extensions that a server announces are good for. */
export function featuresOf({ extensions, readBytes, writeBytes, handles }: ServerTraits): FileServerFeatures {
  const offers = (name: string): boolean => extensions.has(name);
  const isOpenSsh = offers('posix-rename@openssh.com');
  return {
    renameReplace: isOpenSsh,
    // By link and unlink, so that the name is never taken from anybody.
    renameExclusive: true,
    hardLinks: offers('hardlink@openssh.com'),
    symlinks: true,
    fsync: offers('fsync@openssh.com'),
    statfs: offers('statvfs@openssh.com'),
    copyRange: offers('copy-data'),
    linkAttributes: offers('lsetstat@openssh.com'),
    nanoseconds: false,
    handlesOutliveNames: isOpenSsh,
    maximumHandles: handles,
    maximumRead: readBytes,
    maximumWrite: writeBytes,
  };
}
