/** What a check of something kept on the disk found wrong. */
export interface Finding {
  /** The file, or the object that it is about. */
  readonly what: string;
  readonly problem: string;
  /** What was done about it; undefined: it is as it was. */
  readonly mended?: string | undefined;
  /** What to do where the check itself can or must not mend it. */
  readonly remedy?: string | undefined;
}

export interface CheckOptions {
  /** Mends what can be. Nothing that may be the only copy of somebody's bytes is deleted: it goes to `recovered`. */
  readonly repair: boolean;
  /** Folder for bytes that nothing names. */
  readonly recovered: string;
}
