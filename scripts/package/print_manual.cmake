# Has PROGRAM print its manual and the shells' completions into the folder SHARE:
#   cmake -DPROGRAM=build/release/calque -DSHARE=build/release/share -P print_manual.cmake
function(print file)
  get_filename_component(folder ${SHARE}/${file} DIRECTORY)
  file(MAKE_DIRECTORY ${folder})
  execute_process(COMMAND ${PROGRAM} ${ARGN} OUTPUT_FILE ${SHARE}/${file} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

function(print_page file)
  print(${file} ${ARGN})
  execute_process(COMMAND gzip -9nf ${SHARE}/${file} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

print_page(man/man1/calque.1 __man)
print_page(man/man5/calque-job.5 __man-job)
print(bash-completion/completions/calque completion bash)
print(zsh/site-functions/_calque completion zsh)
print(fish/vendor_completions.d/calque.fish completion fish)
