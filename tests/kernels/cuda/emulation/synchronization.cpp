#include "kernels/cuda/emulation/block.h"

namespace calque::emulation {
namespace {

void release_barrier(Machine& m) {
  const Thread* first = nullptr;
  for (unsigned i = 0; i < m.count; ++i) {
    Thread& thread = m.threads[i];
    if (thread.state != State::kAtBarrier) continue;
    if (first == nullptr) first = &thread;
    if (!same(thread.place, first->place)) refuse("threads wait at different barriers");
    thread.state = State::kReady;
  }
  m.waiting = 0;
  ++m.barriers;
}

void wait(Machine& m, State state, Place place) {
  m.current->state = state;
  m.current->place = place;
}

Thread* warp_of(Machine& m, const Thread& thread) {
  const auto index = static_cast<unsigned>(&thread - m.threads.data());
  return &m.threads[index / kWarp * kWarp];
}

int lane_of(const Machine& m, const Thread& thread) {
  return static_cast<int>((&thread - m.threads.data()) % kWarp);
}

// The lanes of `mask` that have arrived where the current thread is.
unsigned arrived(const Machine& m, const Thread* warp) {
  const Thread& self = *m.current;
  unsigned lanes = 0;
  for (unsigned i = 0; i < kWarp; ++i) {
    if ((self.mask >> i & 1) == 0) continue;
    const Thread& other = warp[i];
    if (other.state == State::kExited) refuse("the mask names a lane that has exited");
    if (other.state != State::kAtWarpOperation) continue;
    if (other.mask != self.mask) refuse("lanes bring different masks to a warp operation");
    if (!same(other.place, self.place)) refuse("lanes of a mask are at different warp operations");
    lanes |= 1u << i;
  }
  return lanes;
}

constexpr int kBallot = -1;

// All lanes of the mask meet; the last to arrive hands out the results.
std::uint64_t meet(unsigned mask, std::uint64_t value, int source, Place place) {
  Machine& m = machine();
  Thread& self = *m.current;
  Thread* const warp = warp_of(m, self);
  wait(m, State::kAtWarpOperation, place);
  self.mask = mask;
  self.value = value;
  self.source = source;
  if ((mask >> lane_of(m, self) & 1) == 0) refuse("a lane is not in the mask that it brings");
  if (arrived(m, warp) == mask) {
    std::uint64_t bits = 0;
    for (unsigned i = 0; i < kWarp; ++i)
      if ((mask >> i & 1) != 0 && warp[i].value != 0) bits |= std::uint64_t{1} << i;
    for (unsigned i = 0; i < kWarp; ++i) {
      if ((mask >> i & 1) == 0) continue;
      warp[i].result = warp[i].source == kBallot ? bits : warp[warp[i].source].value;
      warp[i].state = State::kReady;
    }
  }
  self.fiber->yield();
  return self.result;
}

}  // namespace

void leave(Machine& m, Thread& thread) {
  thread.state = State::kExited;
  --m.living;
  const Thread* const warp = warp_of(m, thread);
  for (unsigned i = 0; i < kWarp; ++i)
    if (warp[i].state == State::kAtWarpOperation && (warp[i].mask >> lane_of(m, thread) & 1) != 0)
      refuse("the mask names a lane that has exited");
  if (m.living > 0 && m.waiting == m.living) release_barrier(m);
}

int lane() { return lane_of(machine(), *machine().current); }

void sync_block(Place place) {
  Machine& m = machine();
  wait(m, State::kAtBarrier, place);
  // Two in turn: who wakes late must not take the next barrier's order for this one's.
  void* const token = &m.barrier_tokens[m.barriers & 1];
  release_to(token);
  if (++m.waiting == m.living) release_barrier(m);
  m.current->fiber->yield();
  acquire_from(token);
}

// Orders the memory accesses of exactly the lanes in the mask; shuffles and ballots order nothing.
void sync_warp(unsigned mask, Place place) {
  Machine& m = machine();
  Thread& self = *m.current;
  const Thread* const warp = warp_of(m, self);
  const unsigned turn = self.warp_syncs++ & 1;
  release_to(&self.tokens[turn]);
  const std::uint64_t turns = meet(mask, turn, kBallot, place);
  for (unsigned i = 0; i < kWarp; ++i)
    if ((mask >> i & 1) != 0) acquire_from(const_cast<char*>(&warp[i].tokens[turns >> i & 1]));
}

std::uint64_t exchange(unsigned mask, std::uint64_t value, int source, Place place) {
  if ((mask >> source & 1) == 0) refuse("a shuffle reads a lane outside its mask");
  return meet(mask, value, source, place);
}

unsigned ballot(unsigned mask, bool value, Place place) {
  return static_cast<unsigned>(meet(mask, value ? 1 : 0, kBallot, place));
}

}  // namespace calque::emulation
