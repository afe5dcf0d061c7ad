import { describe } from '@jest/globals';
import { MemoryBackend } from '../backends/memory-backend.js';
import { conformanceSuite } from './suite.js';

describe('a backend of five methods keeps the contract', () => {
  const backend = new MemoryBackend();
  conformanceSuite(() => backend);
});
