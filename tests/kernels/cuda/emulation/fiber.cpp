#include "kernels/cuda/emulation/fiber.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <cstdlib>

// This file is compiled without ThreadSanitizer (its accesses are not the kernel's), so the build
// says whether the rest is watched.
#if defined(CALQUE_EMULATION_TSAN)
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif
#if defined(__SANITIZE_ADDRESS__)
extern "C" {
void __sanitizer_start_switch_fiber(void** saved, const void* bottom, std::size_t size);
void __sanitizer_finish_switch_fiber(void* saved, const void** bottom, std::size_t* size);
}
#endif

#if defined(__x86_64__)
// Saves what the caller expects to keep and the stack pointer, continues where `to` left off.
// swapcontext would do, but asks the kernel for the signal mask at every switch.
extern "C" void calque_emulation_switch(void** from, void* to);
__asm__(
    ".globl calque_emulation_switch\n"
    ".type calque_emulation_switch,@function\n"
    "calque_emulation_switch:\n"
    "  push %rbp\n  push %rbx\n  push %r12\n  push %r13\n  push %r14\n  push %r15\n"
    "  mov %rsp, (%rdi)\n"
    "  mov %rsi, %rsp\n"
    "  pop %r15\n  pop %r14\n  pop %r13\n  pop %r12\n  pop %rbx\n  pop %rbp\n"
    "  ret\n"
    ".size calque_emulation_switch, .-calque_emulation_switch\n");
#endif

namespace calque::emulation {
namespace {

constexpr std::size_t kStackBytes = 128 << 10;
constexpr std::size_t kGuardBytes = 4096;  // below the stack: an overflow is a fault, not damage

#if defined(__x86_64__)
class Context {
 public:
  void prepare(char* stack, void (*entry)()) {
    void** top = reinterpret_cast<void**>(stack + kStackBytes) - 1;
    *top = nullptr;  // `entry` would return there; also aligns the stack as a call does
    *--top = reinterpret_cast<void*>(entry);
    for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
    stack_pointer_ = top;
  }
  void switch_to(Context& other) { calque_emulation_switch(&stack_pointer_, other.stack_pointer_); }

 private:
  void* stack_pointer_ = nullptr;
};
#else
class Context {
 public:
  void prepare(char* stack, void (*entry)()) {
    getcontext(&context_);
    context_.uc_stack.ss_sp = stack;
    context_.uc_stack.ss_size = kStackBytes;
    makecontext(&context_, entry, 0);
  }
  void switch_to(Context& other) { swapcontext(&context_, &other.context_); }

 private:
  ucontext_t context_{};
};
#endif

struct Side {
  Context context;
  const void* stack = nullptr;
  std::size_t stack_bytes = 0;
  void* address_sanitizer = nullptr;
  void* thread_sanitizer = nullptr;
};

Side scheduler;
Fiber* running = nullptr;

void switch_sides(Side& from, Side& to) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&from.address_sanitizer, to.stack, to.stack_bytes);
#endif
#if defined(CALQUE_EMULATION_TSAN)
  __tsan_switch_to_fiber(to.thread_sanitizer, 1);  // 1: a switch orders nothing
#endif
  from.context.switch_to(to.context);
#if defined(__SANITIZE_ADDRESS__)
  const bool on_fiber = &from != &scheduler;
  __sanitizer_finish_switch_fiber(from.address_sanitizer, on_fiber ? &scheduler.stack : nullptr,
                                  on_fiber ? &scheduler.stack_bytes : nullptr);
#endif
}

}  // namespace

struct Fiber::State : Side {
  void (*entry)();
};

Fiber::Fiber(void (*entry)()) : state_(std::make_unique<State>()) {
  void* memory = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) std::abort();
  mprotect(memory, kGuardBytes, PROT_NONE);
  char* const stack = static_cast<char*>(memory) + kGuardBytes;
  state_->stack = stack;
  state_->stack_bytes = kStackBytes;
  state_->entry = entry;
  state_->context.prepare(stack, &Fiber::enter);
#if defined(CALQUE_EMULATION_TSAN)
  state_->thread_sanitizer = __tsan_create_fiber(0);
#endif
}

Fiber::~Fiber() {
#if defined(CALQUE_EMULATION_TSAN)
  __tsan_destroy_fiber(state_->thread_sanitizer);
#endif
  const char* const stack = static_cast<const char*>(state_->stack);
  munmap(const_cast<char*>(stack) - kGuardBytes, kGuardBytes + kStackBytes);
}

void Fiber::adopt_scheduler() {
#if defined(CALQUE_EMULATION_TSAN)
  scheduler.thread_sanitizer = __tsan_get_current_fiber();
#endif
}

void Fiber::enter() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &scheduler.stack, &scheduler.stack_bytes);
#endif
  running->state_->entry();
  std::abort();
}

void Fiber::resume() {
  running = this;
  switch_sides(scheduler, *state_);
}

void Fiber::yield() { switch_sides(*state_, scheduler); }

#if defined(CALQUE_EMULATION_TSAN)
void release_to(void* token) { __tsan_release(token); }
void acquire_from(void* token) { __tsan_acquire(token); }
Unwatched::Unwatched() {
  AnnotateIgnoreReadsBegin("", 0);
  AnnotateIgnoreWritesBegin("", 0);
}
Unwatched::~Unwatched() {
  AnnotateIgnoreWritesEnd("", 0);
  AnnotateIgnoreReadsEnd("", 0);
}
#else
void release_to(void*) {}
void acquire_from(void*) {}
Unwatched::Unwatched() = default;
Unwatched::~Unwatched() = default;
#endif

}  // namespace calque::emulation
