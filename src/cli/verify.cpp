#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "calque/core/error.h"
#include "calque/io/hub_cache.h"
#include "calque/io/json.h"
#include "calque/verify/verify_artifact.h"
#include "cli/commands.h"
#include "cli/units.h"

namespace calque::cli {
namespace {

using verify::Finding;

struct VerifyArguments {
  std::string artifact;
  std::string reference;
  int threads = 0;
  bool json = false;
};

std::string verdict_text(Finding::Verdict verdict) {
  switch (verdict) {
    case Finding::Verdict::kOk:
      return "ok";
    case Finding::Verdict::kWarning:
      return "warning";
    case Finding::Verdict::kFault:
      return "FAULT";
  }
  return "";
}

std::string findings_json(const std::vector<Finding>& findings) {
  io::Json list = io::Json::array();
  for (const Finding& f : findings) {
    const std::string verdict =
        f.verdict == Finding::Verdict::kFault ? "fault" : verdict_text(f.verdict);
    list.push_back({{"verdict", verdict}, {"check", f.check}, {"message", f.message}});
  }
  return list.dump(2) + "\n";
}

std::string findings_text(const std::vector<Finding>& findings) {
  std::string text;
  for (const Finding& f : findings)
    text +=
        fmt::format("{:<7}  {:<9}  {}\n", verdict_text(f.verdict), f.check, printable(f.message));
  return text;
}

void verify(const VerifyArguments& arguments) {
  const std::vector<Finding> findings = verify::verify_artifact({.artifact = arguments.artifact,
                                                                 .reference = arguments.reference,
                                                                 .threads = arguments.threads});
  fmt::print("{}", arguments.json ? findings_json(findings) : findings_text(findings));
  const auto faults = std::count_if(findings.begin(), findings.end(), [](const Finding& f) {
    return f.verdict == Finding::Verdict::kFault;
  });
  if (faults > 0)
    throw Error(ErrorKind::kVerification, "",
                fmt::format("'{}': {} fault{}", printable(arguments.artifact), faults,
                            faults == 1 ? "" : "s"));
}

}  // namespace

Command verify_command(const CommandContext&) {
  const auto a = std::make_shared<VerifyArguments>();
  return {"verify",
          "Check an artifact: checksums, index, settings, values, and a short run of the model.",
          {Option{"artifact", &a->artifact, "Quantized folder or GGUF file."}.required().path(),
           Option{"--reference", &a->reference,
                  "The original model; also prints the KL divergence from it on a short prompt."}
               .model(),
           threads_option(a->threads), json_option(a->json, "Print the findings as JSON.")},
          "  calque verify out/demo-GPTQ-Int4\n"
          "  calque verify out/demo-Q4_0.gguf --reference tests/models/demo",
          [a] {
            a->reference = io::path_of_model(a->reference).string();
            verify(*a);
          }};
}

}  // namespace calque::cli
