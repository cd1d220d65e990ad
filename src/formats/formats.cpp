#include <fmt/format.h>

#include "calque/core/error.h"
#include "calque/core/names.h"
#include "calque/formats/format.h"

namespace calque::formats {

// One line per format. Its file defines `const Format& <name>_format()`.
#define CALQUE_FORMATS(ROW) \
  ROW(gptq)                 \
  ROW(awq)                  \
  ROW(compressed_tensors)   \
  ROW(mlx)                  \
  ROW(gguf)

#define CALQUE_DECLARE(name) const Format& name##_format();
CALQUE_FORMATS(CALQUE_DECLARE)
#undef CALQUE_DECLARE

const std::vector<const Format*>& formats() {
#define CALQUE_ROW(name) &name##_format(),
  static const std::vector<const Format*> table = {CALQUE_FORMATS(CALQUE_ROW)};
#undef CALQUE_ROW
  return table;
}

const Format* find_format(std::string_view name) {
  for (const Format* format : formats())
    if (format->name == name) return format;
  return nullptr;
}

const Format& format_named(std::string_view name) {
  if (const Format* format = find_format(name)) return *format;
  std::vector<std::string_view> names;
  for (const Format* format : formats()) names.push_back(format->name);
  throw Error(ErrorKind::kConfig, "E122",
              fmt::format("unknown export format '{}'; did you mean '{}'?", name,
                          nearest_name(std::string(name), names)));
}

std::unique_ptr<ArtifactWriter> open_writer(const ExportPlan& plan, const WriterInputs& inputs) {
  return format_of(plan.request).open(plan, inputs);
}

std::vector<PlannedFile> planned_files(const ExportPlan& plan, const WriterInputs& inputs) {
  return format_of(plan.request).files(plan, inputs);
}

}  // namespace calque::formats
