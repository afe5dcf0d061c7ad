/**
 * What a mount cannot do, and why. A case that is listed must fail: one that begins to pass has to leave this list, so that
 * the list says what is true.
 */
export type Limits = Readonly<Record<string, string>>;

const noFlags = 'libfuse 2 knows no flags of rename';
const oneTime = 'libfuse 2 drops a change of one time';
const notPassed = 'fuse-native has no such operation';

/** Through the second binding, on a mount that can do all of it through the first. */
export const fuseNativeLimits: Limits = {
  'rename with RENAME_NOREPLACE refuses an existing target': noFlags,
  'rename with RENAME_EXCHANGE swaps two names': noFlags,
  'rename with RENAME_EXCHANGE swaps a file and a directory': noFlags,
  'rename never leaves the target missing': 'libfuse 2 takes the name of an open target away first',
  'times keep their nanoseconds': 'fuse-native carries milliseconds',
  'a time before 1970 is kept': 'fuse-native divides an unsigned number',
  'one time can be set and the other left alone': oneTime,
  'tar keeps extended attributes, both ways': oneTime,
  'a new file belongs to its maker': 'fuse-native does not say who asks',
  'SEEK_DATA and SEEK_HOLE find data and holes': notPassed,
  'a punched hole reads as zeros and keeps the size': notPassed,
  'fallocate extends the file unless it is to keep its size': notPassed,
  'O_TMPFILE makes a file without a name, which link gives one': notPassed,
  'names need not be UTF-8': 'fuse-native carries text',
};

/** An S3 mount: what an object store cannot hold. */
export const s3Limits: Limits = {
  'rename with RENAME_EXCHANGE swaps a file and a directory': 'a directory is many objects',
};

/** An SFTP mount: what the protocol has no request for. */
export const sftpLimits: Limits = {
  'rename with RENAME_EXCHANGE swaps two names': 'SFTP has no such request',
  'rename with RENAME_EXCHANGE swaps a file and a directory': 'SFTP has no such request',
  'O_TMPFILE makes a file without a name, which link gives one': 'SFTP has no file without a name',
};
