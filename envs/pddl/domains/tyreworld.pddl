; Change flat tyres: tools come out of the boot, nuts are undone on a jacked-up hub, and all is put away again.
(define (domain tyreworld)
  (:requirements :strips :typing)
  (:types
    tool wheel nut - portable
    container hub - object)
  (:constants wrench jack pump - tool)
  (:predicates
    (isopen ?c - container)
    (closed ?c - container)
    (unlocked ?c - container)
    (in ?x - portable ?c - container)
    (have ?x - portable)
    (tight ?n - nut ?h - hub)
    (loose ?n - nut ?h - hub)
    (fastened ?h - hub)
    (unfastened ?h - hub)
    (on-ground ?h - hub)
    (not-on-ground ?h - hub)
    (on ?w - wheel ?h - hub)
    (free ?h - hub)
    (intact ?w - wheel)
    (inflated ?w - wheel)
    (not-inflated ?w - wheel))
  (:action open
    :parameters (?c - container)
    :precondition (and (unlocked ?c) (closed ?c))
    :effect (and (isopen ?c) (not (closed ?c))))
  (:action close
    :parameters (?c - container)
    :precondition (isopen ?c)
    :effect (and (closed ?c) (not (isopen ?c))))
  (:action fetch
    :parameters (?x - portable ?c - container)
    :precondition (and (in ?x ?c) (isopen ?c))
    :effect (and (have ?x) (not (in ?x ?c))))
  (:action put-away
    :parameters (?x - portable ?c - container)
    :precondition (and (have ?x) (isopen ?c))
    :effect (and (in ?x ?c) (not (have ?x))))
  (:action loosen
    :parameters (?n - nut ?h - hub)
    :precondition (and (have wrench) (tight ?n ?h) (on-ground ?h))
    :effect (and (loose ?n ?h) (not (tight ?n ?h))))
  (:action tighten
    :parameters (?n - nut ?h - hub)
    :precondition (and (have wrench) (loose ?n ?h) (on-ground ?h))
    :effect (and (tight ?n ?h) (not (loose ?n ?h))))
  (:action jack-up
    :parameters (?h - hub)
    :precondition (and (have jack) (on-ground ?h))
    :effect (and (not-on-ground ?h) (not (on-ground ?h)) (not (have jack))))
  (:action jack-down
    :parameters (?h - hub)
    :precondition (not-on-ground ?h)
    :effect (and (on-ground ?h) (have jack) (not (not-on-ground ?h))))
  (:action undo
    :parameters (?n - nut ?h - hub)
    :precondition (and (have wrench) (not-on-ground ?h) (fastened ?h) (loose ?n ?h))
    :effect (and (have ?n) (unfastened ?h) (not (fastened ?h)) (not (loose ?n ?h))))
  (:action do-up
    :parameters (?n - nut ?h - hub)
    :precondition (and (have wrench) (have ?n) (not-on-ground ?h) (unfastened ?h))
    :effect (and (loose ?n ?h) (fastened ?h) (not (unfastened ?h)) (not (have ?n))))
  (:action remove-wheel
    :parameters (?w - wheel ?h - hub)
    :precondition (and (not-on-ground ?h) (on ?w ?h) (unfastened ?h))
    :effect (and (have ?w) (free ?h) (not (on ?w ?h))))
  (:action put-on-wheel
    :parameters (?w - wheel ?h - hub)
    :precondition (and (have ?w) (free ?h) (unfastened ?h) (not-on-ground ?h))
    :effect (and (on ?w ?h) (not (have ?w)) (not (free ?h))))
  (:action inflate
    :parameters (?w - wheel)
    :precondition (and (have pump) (not-inflated ?w) (intact ?w))
    :effect (and (inflated ?w) (not (not-inflated ?w)))))
