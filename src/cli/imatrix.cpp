#include "calque/io/imatrix.h"

#include <fmt/format.h>

#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "calque/calib/collect_imatrix.h"
#include "calque/core/error.h"
#include "calque/io/hub_cache.h"
#include "cli/commands.h"
#include "cli/imatrix_statistics.h"
#include "cli/progress.h"
#include "cli/units.h"

namespace calque::cli {
namespace {

struct ImatrixArguments {
  std::string model;
  std::vector<std::string> texts;
  std::vector<std::string> in_files;
  std::string out;
  std::string format = "auto";
  std::int64_t chunk_size = 512;
  std::int64_t chunks = 0;
  bool parse_special = false;
  bool process_output = false;
  std::string dtype = "float32";
  int threads = 0;
  std::string progress = "auto";
  bool show_statistics = false;
  bool overwrite = false;

  bool measures() const { return !model.empty(); }
};

[[noreturn]] void refuse(const char* code, const std::string& message) {
  throw Error(ErrorKind::kConfig, code, message);
}

// Checks the arguments before the work starts.
void check(const ImatrixArguments& arguments) {
  if (arguments.measures() && arguments.texts.empty())
    refuse("E001", "give a text to measure the model's inputs on: calque imatrix MODEL TEXT");
  if (!arguments.measures() && arguments.in_files.empty())
    refuse("E001", "give MODEL and TEXT to measure, or --in-file to merge");
  if (arguments.out.empty() && (arguments.measures() || !arguments.show_statistics))
    refuse("E001", "give the file to write: -o FILE");
  if (!arguments.out.empty() && !arguments.overwrite && std::filesystem::exists(arguments.out))
    refuse("E209", fmt::format("'{}' already exists; give --overwrite, or choose another file",
                               arguments.out));
}

io::ImatrixFormat format_of(const std::string& name) {
  if (name == "gguf") return io::ImatrixFormat::kGguf;
  return name == "dat" ? io::ImatrixFormat::kDat : io::ImatrixFormat::kByName;
}

io::Imatrix measure(const ImatrixArguments& arguments) {
  Progress progress(progress_mode(arguments.progress), std::cerr, terminal_width());
  return calib::collect_imatrix({.model = arguments.model,
                                 .texts = {arguments.texts.begin(), arguments.texts.end()},
                                 .chunk_size = arguments.chunk_size,
                                 .chunks = arguments.chunks,
                                 .parse_special = arguments.parse_special,
                                 .process_output = arguments.process_output,
                                 .forward_dtype = arguments.dtype,
                                 .threads = arguments.threads},
                                progress);
}

io::Imatrix collected(const ImatrixArguments& arguments) {
  io::Imatrix imatrix;
  for (const std::string& file : arguments.in_files)
    with_context(file, [&] { imatrix.add(io::read_imatrix(file)); });
  if (arguments.measures()) imatrix.add(measure(arguments));
  imatrix.drop_folders();
  return imatrix;
}

void run_imatrix(const ImatrixArguments& arguments) {
  check(arguments);
  const io::Imatrix imatrix = collected(arguments);
  if (!arguments.out.empty()) {
    io::write_imatrix(imatrix, arguments.out, format_of(arguments.format));
    fmt::print("{}: {} entries, {} chunks\n", printable(arguments.out), imatrix.entries.size(),
               imatrix.chunks);
  }
  if (arguments.show_statistics) fmt::print("{}", statistics_text(imatrix));
}

}  // namespace

Command imatrix_command(const CommandContext&) {
  const auto a = std::make_shared<ImatrixArguments>();
  return {"imatrix",
          "Measure an importance matrix as llama-imatrix does, or merge several.",
          {Option{"model", &a->model,
                  "The original model: a Hugging Face folder or a GGUF file, with its tokenizer."}
               .model(),
           Option{"texts", &a->texts, "Calibration text files (also .gz, .zst)."}.path(),
           Option{"--in-file", &a->in_files,
                  "An existing importance matrix to add, in either format. May be repeated; "
                  "without MODEL, these are merged."}
               .path(),
           Option{"--chunk-size", &a->chunk_size, "Tokens per chunk."}.from(2, 1 << 20),
           Option{"--chunks", &a->chunks,
                  "Number of chunks per text, from its start; 0: all full chunks."}
               .from(0, kAny),
           {"--parse-special", &a->parse_special,
            "Treat text that spells a special token as that token."},
           {"--process-output", &a->process_output, "Also measure the input of the output head."},
           Option{"-o,--out", &a->out, "Output file."}.path(),
           Option{"--format", &a->format,
                  "gguf, dat (llama.cpp's older format), or auto: dat for *.dat, else gguf."}
               .among({"auto", "gguf", "dat"}),
           {"--overwrite", &a->overwrite, "Replace the file if it exists."},
           {"--show-statistics", &a->show_statistics, "Print a table of the entries."},
           Option{"--dtype", &a->dtype, "Precision of the forward pass."}.among(
               {"float32", "bfloat16", "auto"}),
           threads_option(a->threads),
           progress_option(a->progress)},
          "  calque imatrix tests/models/demo calibration_data/prose.txt -o demo-imatrix.gguf\n"
          "  calque imatrix --in-file a.gguf --in-file b.dat -o both.gguf\n"
          "  calque imatrix --in-file demo-imatrix.gguf --show-statistics",
          [a] {
            a->model = io::path_of_model(a->model).string();
            run_imatrix(*a);
          }};
}

}  // namespace calque::cli
