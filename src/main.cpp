#include "cli/interrupts.h"
#include "cli/program.h"

int main(int argc, char** argv) {
  calque::cli::clean_up_when_interrupted();
  return calque::cli::run_program(argc, argv);
}
