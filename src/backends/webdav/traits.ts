/** What the server was found to honour; see probe.ts. */
export interface Traits {
  /** Exclusive write locks: whoever has not the token is refused. */
  readonly locks: boolean;
  /** LOCK itself is refused where a condition on the resource does not hold. */
  readonly lockConditions: boolean;
  /** PUT honours `If-None-Match: *`. */
  readonly writeAbsent: boolean;
  /** PUT honours `If: (["etag"])` or, second best, `If-Match` with the ETag that a listing shows. */
  readonly writeMatch: 'if' | 'if-match' | false;
  /** Dead properties are kept. */
  readonly attributes: boolean;
  /** A resource that was moved has the version it had before. */
  readonly moveKeepsVersion: boolean;
  /** COPY and MOVE honour `Overwrite: F`. */
  readonly overwrite: boolean;
}

/** What is assumed of a server that may not be written to, and so cannot be asked. */
export const unprobedTraits: Traits = {
  locks: false,
  lockConditions: false,
  writeAbsent: false,
  writeMatch: false,
  attributes: true,
  moveKeepsVersion: false,
  overwrite: false,
};
