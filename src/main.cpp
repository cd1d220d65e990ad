#include <memory>

#include "cli/interrupts.h"
#include "cli/program.h"

int main(int argc, char** argv) {
  const auto saved = std::make_shared<calque::resume::SavedRun>();
  calque::cli::clean_up_when_interrupted(saved);
  return calque::cli::run_program(argc, argv, *saved);
}
