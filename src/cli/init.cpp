#include <fmt/format.h>

#include <memory>
#include <string>

#include "calque/core/error.h"
#include "calque/io/file.h"
#include "calque/pipeline/open_job.h"
#include "cli/commands.h"
#include "cli/job_draft.h"
#include "cli/job_draft_options.h"
#include "cli/units.h"

namespace calque::cli {
namespace {

struct InitArguments {
  DraftOptions draft;
  std::string out;  // "": named after model and targets
  bool force = false;
};

void init(const InitArguments& arguments) {
  JobDraft draft = make_draft(arguments.draft, ".");
  draft.command = command_line("init", arguments.draft);
  if (!arguments.out.empty()) draft.file = std::filesystem::absolute(arguments.out);
  const std::string shown = arguments.out.empty() ? draft.file.filename().string() : arguments.out;
  if (std::filesystem::exists(draft.file) && !arguments.force)
    throw Error(ErrorKind::kConfig, "E209",
                fmt::format("'{}' already exists; give --force to replace it, or --out for another "
                            "file",
                            printable(shown)));
  const std::string text = job_text(draft, Detail::kMainKeys);
  job_of(draft, Detail::kMainKeys);  // refuses what the file would be refused for
  io::write_file(draft.file, text);
  const std::string quoted = shell_quoted(shown);
  fmt::print("Wrote {0}. Edit it, then\n  calque plan {1}\n  calque run {1}\n", printable(shown),
             quoted);
  for (const std::string& note : draft.notes) fmt::print("note: {}\n", printable(note));
}

}  // namespace

Command init_command(const CommandContext&) {
  const auto a = std::make_shared<InitArguments>();
  std::vector<Option> options = draft_options(a->draft);
  options.insert(
      options.end(),
      {Option{"--out,-o", &a->out, "The job file. Default: named after the model and the targets."}
           .called("FILE")
           .path(),
       {"--force", &a->force, "Replace a file that exists."}});
  return {"init",
          "Write a job file for a model, with a line on each main key, to be edited and run.",
          std::move(options),
          "  calque init tests/models/demo\n"
          "  calque init Qwen/Qwen3-8B gptq-4bit --out job.yaml",
          [a] { init(*a); }};
}

}  // namespace calque::cli
