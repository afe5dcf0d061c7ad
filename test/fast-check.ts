/** The short form tries the same cases every time; the long form (`npm run test:long`) new ones, and prints the seed of a failure. */
import fc from 'fast-check';

if (process.env.MIRAGE_TEST_LONG === undefined) fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: 42 });
