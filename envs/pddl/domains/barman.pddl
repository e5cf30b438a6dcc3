; A barman with two hands serves ingredients and cocktails in shot glasses.
; A shaker's level counts the ingredients in it; a glass must be clean, or used for the same ingredient before.
(define (domain barman)
  (:requirements :strips :typing :negative-preconditions :equality)
  (:types
    ingredient cocktail - beverage
    shot shaker - container
    hand level dispenser - object)
  (:predicates
    (ontable ?c - container)
    (holding ?h - hand ?c - container)
    (handempty ?h - hand)
    (empty ?c - container)
    (clean ?c - container)
    (contains ?c - container ?b - beverage)
    (used ?c - container ?b - beverage)
    (dispenses ?d - dispenser ?i - ingredient)
    (shaker-level ?s - shaker ?l - level)
    (shaker-empty-level ?s - shaker ?l - level)
    (next ?lower ?upper - level)
    (unshaked ?s - shaker)
    (shaked ?s - shaker)
    (cocktail-part1 ?c - cocktail ?i - ingredient)
    (cocktail-part2 ?c - cocktail ?i - ingredient))
  (:action grasp
    :parameters (?h - hand ?c - container)
    :precondition (and (ontable ?c) (handempty ?h))
    :effect (and (holding ?h ?c) (not (ontable ?c)) (not (handempty ?h))))
  (:action leave
    :parameters (?h - hand ?c - container)
    :precondition (holding ?h ?c)
    :effect (and (ontable ?c) (handempty ?h) (not (holding ?h ?c))))
  (:action fill-shot
    :parameters (?s - shot ?i - ingredient ?h1 ?h2 - hand ?d - dispenser)
    :precondition (and (holding ?h1 ?s) (handempty ?h2) (dispenses ?d ?i) (empty ?s) (clean ?s))
    :effect (and (contains ?s ?i) (used ?s ?i) (not (empty ?s)) (not (clean ?s))))
  (:action refill-shot
    :parameters (?s - shot ?i - ingredient ?h1 ?h2 - hand ?d - dispenser)
    :precondition (and (holding ?h1 ?s) (handempty ?h2) (dispenses ?d ?i) (empty ?s) (used ?s ?i))
    :effect (and (contains ?s ?i) (not (empty ?s))))
  (:action empty-shot
    :parameters (?h - hand ?s - shot ?b - beverage)
    :precondition (and (holding ?h ?s) (contains ?s ?b))
    :effect (and (empty ?s) (not (contains ?s ?b))))
  (:action clean-shot
    :parameters (?s - shot ?b - beverage ?h1 ?h2 - hand)
    :precondition (and (holding ?h1 ?s) (handempty ?h2) (empty ?s) (used ?s ?b))
    :effect (and (clean ?s) (not (used ?s ?b))))
  (:action pour-shot-to-clean-shaker
    :parameters (?s - shot ?i - ingredient ?k - shaker ?h - hand ?from ?to - level)
    :precondition (and (holding ?h ?s) (contains ?s ?i) (empty ?k) (clean ?k) (shaker-level ?k ?from) (next ?from ?to))
    :effect (and (contains ?k ?i) (unshaked ?k) (empty ?s) (shaker-level ?k ?to)
                 (not (contains ?s ?i)) (not (empty ?k)) (not (clean ?k)) (not (shaker-level ?k ?from))))
  (:action pour-shot-to-used-shaker
    :parameters (?s - shot ?i - ingredient ?k - shaker ?h - hand ?from ?to - level)
    :precondition (and (holding ?h ?s) (contains ?s ?i) (unshaked ?k) (shaker-level ?k ?from) (next ?from ?to))
    :effect (and (contains ?k ?i) (empty ?s) (shaker-level ?k ?to)
                 (not (contains ?s ?i)) (not (shaker-level ?k ?from))))
  (:action empty-shaker
    :parameters (?h - hand ?k - shaker ?c - cocktail ?level ?bottom - level)
    :precondition (and (holding ?h ?k) (contains ?k ?c) (shaked ?k) (shaker-level ?k ?level) (shaker-empty-level ?k ?bottom)
                       (not (= ?level ?bottom)))
    :effect (and (empty ?k) (shaker-level ?k ?bottom)
                 (not (contains ?k ?c)) (not (shaked ?k)) (not (shaker-level ?k ?level))))
  (:action clean-shaker
    :parameters (?h1 ?h2 - hand ?k - shaker)
    :precondition (and (holding ?h1 ?k) (handempty ?h2) (empty ?k))
    :effect (clean ?k))
  (:action shake
    :parameters (?c - cocktail ?i1 ?i2 - ingredient ?k - shaker ?h1 ?h2 - hand)
    :precondition (and (holding ?h1 ?k) (handempty ?h2) (unshaked ?k) (contains ?k ?i1) (contains ?k ?i2)
                       (cocktail-part1 ?c ?i1) (cocktail-part2 ?c ?i2))
    :effect (and (shaked ?k) (contains ?k ?c) (not (unshaked ?k)) (not (contains ?k ?i1)) (not (contains ?k ?i2))))
  (:action pour-shaker-to-shot
    :parameters (?b - beverage ?s - shot ?h - hand ?k - shaker ?from ?to - level)
    :precondition (and (holding ?h ?k) (shaked ?k) (contains ?k ?b) (empty ?s) (clean ?s)
                       (shaker-level ?k ?from) (next ?to ?from))
    :effect (and (contains ?s ?b) (shaker-level ?k ?to) (not (empty ?s)) (not (clean ?s)) (not (shaker-level ?k ?from)))))
