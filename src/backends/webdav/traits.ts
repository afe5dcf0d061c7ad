import { z } from 'zod';

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
  /** The answer to a PUT names the version that a listing shows from then on. */
  readonly writeTellsVersion: boolean;
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
  writeTellsVersion: false,
  attributes: true,
  moveKeepsVersion: false,
  overwrite: false,
};

/** As they are remembered from one mount to the next. */
export const rememberedTraits: z.ZodType<Traits> = z.object({
  locks: z.boolean(),
  lockConditions: z.boolean(),
  writeAbsent: z.boolean(),
  writeMatch: z.union([z.literal('if'), z.literal('if-match'), z.literal(false)]),
  writeTellsVersion: z.boolean(),
  attributes: z.boolean(),
  moveKeepsVersion: z.boolean(),
  overwrite: z.boolean(),
});
