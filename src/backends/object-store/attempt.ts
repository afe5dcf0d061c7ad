/** What was asked when it failed: the same answer means another thing for another question. */
export interface Attempt {
  readonly operation: string;
  /** What the message names: a key, or the bucket or container. */
  readonly subject: string;
  /** A change under a precondition: without a clear answer nobody knows whether it was carried out. */
  readonly conditional?: boolean;
  readonly signal?: AbortSignal;
}
