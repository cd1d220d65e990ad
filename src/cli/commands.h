#pragma once

#include <string>

namespace CLI {
class App;
}

namespace calque::resume {
class SavedRun;
}
namespace calque::cli {

// Each adds its command to the program, with what it does when it is chosen.
// `saved`: told what the run has saved.
void add_run(CLI::App& program, resume::SavedRun& saved);
void add_resume(CLI::App& program, resume::SavedRun& saved);
void add_validate(CLI::App& program);
void add_plan(CLI::App& program);
void add_eval(CLI::App& program);
void add_inspect(CLI::App& program);
void add_verify(CLI::App& program);
void add_dequantize(CLI::App& program);
void add_imatrix(CLI::App& program);
void add_tokenize(CLI::App& program);
void add_sweep(CLI::App& program);
void add_schema(CLI::App& program);
void add_doctor(CLI::App& program);
void add_explain(CLI::App& program);
void add_report(CLI::App& program);
void add_compare(CLI::App& program);
void add_recommend(CLI::App& program);

// The end of a command's --help: its examples, one a line, and the exit codes.
std::string help_footer(const std::string& examples);

}  // namespace calque::cli
