# How a test is declared. Each folder of tests/ mirrors one of src/ and has a CMakeLists.txt with calls of these functions.
find_package(GTest REQUIRED)
include(GoogleTest)

# Empty or missing: the Python tests report themselves as skipped, with the reason.
set(default_test_python "")
if(EXISTS "${PROJECT_SOURCE_DIR}/.venv/bin/python")
  set(default_test_python "${PROJECT_SOURCE_DIR}/.venv/bin/python")
endif()
set(TRITLLM_TEST_PYTHON "${default_test_python}" CACHE FILEPATH
  "Interpreter with the packages of requirements-test.txt (scripts/python_environment makes one)")
if(NOT TRITLLM_TEST_PYTHON AND default_test_python)
  # The environment was made after the first configuration.
  set_property(CACHE TRITLLM_TEST_PYTHON PROPERTY VALUE "${default_test_python}")
endif()

# A real model that scripts/get_demo_model downloads; a test that needs it skips itself, with the reason, where it is missing.
set(tritllm_demo_model "TRITLLM_DEMO_MODEL=${PROJECT_SOURCE_DIR}/demo/SmolLM2-135M-Instruct.Q4_1.gguf")

# tritllm_test(NAME SOURCES file... [LINKS target...]): one executable of GoogleTest cases, usually one for each module; every
# case becomes a ctest test named NAME.Suite.Case. Headers under tests/ are included as "support/...". The cases get the environment
# variable TRITLLM_DEMO_MODEL.
function(tritllm_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS" ${ARGN})
  add_executable(${name}_test ${ARG_SOURCES})
  target_include_directories(${name}_test PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  # The code under test is optimised; the tests themselves need not be.
  target_compile_options(${name}_test PRIVATE $<$<CONFIG:Release>:-O1>)
  target_link_libraries(${name}_test PRIVATE ${ARG_LINKS} GTest::gtest GTest::gtest_main tritllm_flags)
  # PRE_TEST: cases are listed when ctest starts, so building never runs a test program.
  gtest_discover_tests(${name}_test TEST_PREFIX "${name}." DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
    PROPERTIES TIMEOUT 300 ENVIRONMENT "${tritllm_demo_model}")
endfunction()

# A test that cannot run here: counted as skipped, with the reason in its output.
function(tritllm_skipped_test name reason)
  add_test(NAME ${name} COMMAND ${CMAKE_COMMAND} -E echo "test skipped: ${reason}")
  set_tests_properties(${name} PROPERTIES SKIP_REGULAR_EXPRESSION "^test skipped: ")
endfunction()

# tritllm_python_test(NAME file...): pytest files with the environment variables TRITLLM_BINARY (the program under test),
# TRITLLM_SOURCE_DIR and TRITLLM_DEMO_MODEL. They are one ctest test; pytest writes the results of its cases to
# test-results/NAME.xml of the build folder. Where the caller has set test_python, that interpreter runs them.
function(tritllm_python_test name)
  if(NOT TRITLLM_TEST_PYTHON)
    tritllm_skipped_test(${name} "no Python test environment; run scripts/python_environment test, then configure again")
    return()
  endif()
  list(TRANSFORM ARGN PREPEND "${CMAKE_CURRENT_SOURCE_DIR}/")
  if(NOT test_python)
    set(test_python ${TRITLLM_TEST_PYTHON})
  endif()
  add_test(NAME ${name}
    COMMAND ${test_python} -m pytest -q -rs -p no:cacheprovider
      --junit-xml=${PROJECT_BINARY_DIR}/test-results/${name}.xml ${ARGN})
  set_tests_properties(${name} PROPERTIES
    TIMEOUT 900
    SKIP_REGULAR_EXPRESSION "(^|\n)[0-9]+ skipped in "
    ENVIRONMENT "TRITLLM_BINARY=${PROJECT_BINARY_DIR}/tritllm;TRITLLM_SOURCE_DIR=${PROJECT_SOURCE_DIR};${tritllm_demo_model};\
PYTHONDONTWRITEBYTECODE=1")
endfunction()
