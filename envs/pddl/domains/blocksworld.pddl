; An arm that holds one block at a time builds towers on a table.
(define (domain blocksworld)
  (:requirements :strips :typing :negative-preconditions :equality)
  (:types block)
  (:predicates
    (on-table ?b - block)
    (on ?upper ?lower - block)
    (clear ?b - block)
    (holding ?b - block)
    (arm-empty))
  (:action pickup
    :parameters (?b - block)
    :precondition (and (on-table ?b) (clear ?b) (arm-empty))
    :effect (and (holding ?b) (not (on-table ?b)) (not (clear ?b)) (not (arm-empty))))
  (:action putdown
    :parameters (?b - block)
    :precondition (holding ?b)
    :effect (and (on-table ?b) (clear ?b) (arm-empty) (not (holding ?b))))
  (:action stack
    :parameters (?upper ?lower - block)
    :precondition (and (holding ?upper) (clear ?lower) (not (= ?upper ?lower)))
    :effect (and (on ?upper ?lower) (clear ?upper) (arm-empty) (not (holding ?upper)) (not (clear ?lower))))
  (:action unstack
    :parameters (?upper ?lower - block)
    :precondition (and (on ?upper ?lower) (clear ?upper) (arm-empty))
    :effect (and (holding ?upper) (clear ?lower) (not (on ?upper ?lower)) (not (clear ?upper)) (not (arm-empty)))))
