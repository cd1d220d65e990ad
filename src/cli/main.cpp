#include <malloc.h>

#include "cli/interrupts.h"
#include "cli/program.h"

namespace {

// Blocks from this size on go back to the system when they are freed. By itself glibc raises the
// size to that of the largest block that was freed, up to 32 MiB, and from then on keeps what is
// smaller: hundreds of MiB that no plan of a job's memory knows of.
constexpr int kReturnedBlocks = 4 << 20;

}  // namespace

int main(int argc, char** argv) {
  mallopt(M_MMAP_THRESHOLD, kReturnedBlocks);
  calque::cli::clean_up_when_interrupted();
  return calque::cli::run_program(argc, argv);
}
