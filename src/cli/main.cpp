#include "cli/program.h"

int main(int argc, char** argv) { return calque::cli::run_program(argc, argv); }
