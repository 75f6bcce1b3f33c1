# A channel and programs that run as its trainer, for libholdfast's tests.
add_library(trainer_trainee STATIC trainee.c)
target_link_libraries(trainer_trainee PUBLIC trainer_core PRIVATE PkgConfig::CMOCKA)

holdfast_unit_test(channel THREADS SOURCES test_channel.c LIBS trainer_trainee agent_core)
holdfast_unit_test(client SOURCES test_client.c LIBS trainer_trainee)
holdfast_unit_test(crash SOURCES test_crash.c LIBS trainer_trainee)
holdfast_unit_test(snapshot SOURCES test_snapshot.c LIBS trainer_trainee)
holdfast_unit_test(slots SOURCES test_slots.c LIBS trainer_core)

foreach(library IN ITEMS holdfast holdfast_static)
	add_executable(every_call_${library} every_call.cc)
	target_link_libraries(every_call_${library} PRIVATE holdfast_flags ${library})
	add_test(NAME unit.every_call.${library} COMMAND every_call_${library})
	set_tests_properties(unit.every_call.${library} PROPERTIES TIMEOUT 60 LABELS unit)
endforeach()

if(NOT DEFINED Python3_EXECUTABLE AND EXISTS /usr/bin/python3)
	set(Python3_EXECUTABLE /usr/bin/python3)
endif()
find_package(Python3 3.9 REQUIRED COMPONENTS Interpreter)
add_test(NAME unit.manual_example
	COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_SOURCE_DIR}/manual_example.py --root ${PROJECT_SOURCE_DIR}
		--cc ${CMAKE_C_COMPILER} --library $<TARGET_FILE:holdfast> --static $<TARGET_FILE:holdfast_static>
		--sanitize=${HOLDFAST_SANITIZE})
set_tests_properties(unit.manual_example PROPERTIES TIMEOUT 60 LABELS unit
	ENVIRONMENT "PYTHONDONTWRITEBYTECODE=1;LC_ALL=C.UTF-8")

# The same program twice: the names of the shared library are versioned, those of the static one are joined.
foreach(kind IN ITEMS holdfast holdfast_static)
	add_executable(test_cplusplus_${kind} test_cplusplus.cc)
	target_link_libraries(test_cplusplus_${kind} PRIVATE holdfast_flags ${kind})
	add_test(NAME unit.cplusplus_${kind} COMMAND test_cplusplus_${kind})
	set_tests_properties(unit.cplusplus_${kind} PROPERTIES TIMEOUT 60 LABELS unit)
endforeach()

if(NOT DEFINED Python3_EXECUTABLE AND EXISTS /usr/bin/python3)
	set(Python3_EXECUTABLE /usr/bin/python3)
endif()
find_package(Python3 3.9 REQUIRED COMPONENTS Interpreter)
set(sanitize)
if(HOLDFAST_SANITIZE)
	set(sanitize -fsanitize=${HOLDFAST_SANITIZE})
endif()
add_test(NAME unit.example COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/example.py
	${PROJECT_SOURCE_DIR}/man/libholdfast.3 ${PROJECT_SOURCE_DIR}/trainer $<TARGET_FILE:holdfast_static>
	${CMAKE_C_COMPILER} ${sanitize})
set_tests_properties(unit.example PROPERTIES TIMEOUT 60 LABELS unit)
