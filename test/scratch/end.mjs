import { takeAway } from './begin.mjs';

/** What is left now no test has wanted to keep. */
export default function end() {
  takeAway(process.env.TMPDIR);
}
