/**
 * What the file-system side asks of the side that keeps leases: that no other host writes a file meanwhile. Leases are politeness between
 * hosts; that no update is lost is the business of the precondition of each commit.
 */
import type { MountIndex } from './store-port.js';

/** Chosen by who asks, never used twice. */
export type LeaseTicket = number;

/** Plain data and promises: it crosses between threads. Failures are MirageError. */
export interface LeasePort {
  /**
   * Resolves when this mount has the lease of `name`, which all tickets of one mount share. With `wait` false EAGAIN at once while another host has it; else ETIMEDOUT
   * after the time that the mount waits. ECANCELED: the ticket was released meanwhile.
   */
  acquireLease(mount: MountIndex, name: string, ticket: LeaseTicket, wait: boolean): Promise<void>;
  /** Gives a ticket back, granted or still waited for; the lease goes with the last one. */
  releaseLease(ticket: LeaseTicket): Promise<void>;
}
